-- with: drains
-- ARGV: token, progress. Written only by who holds the lease of a running job.
local token = ARGV[3]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'id')
if (entry[1] or '') == '' or redis.call('HGET', job_key(entry[2]), 'status') ~= 'processing' then return 0 end
redis.call('HSET', job_key(entry[2]), 'progress', ARGV[4])
return 1
