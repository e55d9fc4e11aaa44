-- with: callbacks
-- Puts a dead letter's payload back at the end of its queue; a job that had ended waits again. ARGV: letter id.
local key = prefix .. 'deadletter:' .. ARGV[3]
local found = redis.call('HMGET', key, 'payload', 'job')
if not found[1] then return 0 end
redis.call('LPUSH', list, found[1])
redis.call('DEL', key)
redis.call('ZREM', prefix .. 'deadletters', ARGV[3])
local id = found[2]
if id == '' or not is_terminal(redis.call('HGET', job_key(id), 'status')) then return 1 end
redis.call('HDEL', job_key(id), 'finished', 'entry', 'started', 'error', 'lastError', 'assets', 'metadata', 'progress', 'cancel', 'worker')
redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', 0, 'payload', found[1])
redis.call('PERSIST', job_key(id))
for _, callback in ipairs(redis.call('LRANGE', lane_key(id), 0, -1)) do remove_callback(callback) end
return 1
