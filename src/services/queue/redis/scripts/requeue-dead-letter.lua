-- Puts a dead letter's payload back at the end of its queue. ARGV: letter id.
local letter = ARGV[3]
local key = prefix .. 'deadletter:' .. letter
local found = redis.call('HMGET', key, 'payload', 'job')
if not found[1] then return 0 end
redis.call('LPUSH', list, found[1])
redis.call('DEL', key)
redis.call('ZREM', deadletters, letter)
local id = found[2]
if id == '' then return 1 end
local job = redis.call('HMGET', job_key(id), 'status', 'created')
if not is_terminal(job[1]) then return 1 end
redis.call('HDEL', job_key(id), 'finished', 'finishedBy', 'started', 'error', 'lastError', 'assets', 'metadata', 'progress', 'cancel', 'worker')
redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', 0, 'payload', found[1])
redis.call('PERSIST', job_key(id))
redis.call('ZREM', finished, listing_member(id, tonumber(job[2])))
for _, callback in ipairs(redis.call('LRANGE', lane_key(id), 0, -1)) do remove_callback(callback) end
return 1
