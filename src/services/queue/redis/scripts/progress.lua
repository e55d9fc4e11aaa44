-- with: drains
-- ARGV: token, progress. Written only by who holds the lease of a running job.
local token = ARGV[3]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'id')
if (entry[1] or '') == '' or redis.call('HGET', job_key(entry[2]), 'status') ~= 'processing' then return 0 end
redis.call('HSET', job_key(entry[2]), 'progress', ARGV[4])
local job = redis.call('HMGET', job_key(entry[2]), 'user', 'written')
redis.call('PUBLISH', prefix .. 'progress', table.concat({ entry[2], job[2] or '', job[1] or '', ARGV[4] }, '\n'))
return 1
