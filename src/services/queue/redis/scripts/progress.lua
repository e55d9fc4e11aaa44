-- ARGV: token, progress, metadata ('' for no change). Written only by who holds the lease of a running job.
local token = ARGV[3]
if not is_held(token) then return 0 end
local id = redis.call('HGET', entry_key(token), 'id')
if id == '' or redis.call('HGET', job_key(id), 'status') ~= 'processing' then return 0 end
redis.call('HSET', job_key(id), 'progress', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', job_key(id), 'metadata', ARGV[5]) end
return 1
