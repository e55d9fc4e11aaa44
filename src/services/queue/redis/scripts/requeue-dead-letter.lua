-- with: drains callbacks letters
-- Puts a dead letter's payload back at the end of its queue; a job that ended with it waits again, and nothing is said of that
-- ending any more. What ended otherwise stays as it is. ARGV: letter id.
local found = read_fields(letter_key(ARGV[3]), 'payload', 'job', 'token', 'bytes')
if not found[1] then return 'unknown' end
-- What was too large was not kept.
if found[4] then return 'incomplete' end
redis.call('LPUSH', list, found[1])
drop_letter(ARGV[3])
local id = found[2] or ''
if id == '' then return 'requeued' end
local job = read_fields(job_key(id), 'status', 'entry')
if not is_terminal(job[1]) or job[2] ~= found[3] then return 'requeued' end
redis.call('HDEL', job_key(id), 'finished', 'entry', 'started', 'error', 'lastError', 'assets', 'metadata', 'progress', 'cancel', 'worker')
redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', 0, 'payload', found[1], 'since', now)
redis.call('PERSIST', job_key(id))
tell(id)
for _, callback in ipairs(redis.call('LRANGE', lane_key(id), 0, -1)) do remove_callback(callback) end
local start = id .. ':'
for _, callback in ipairs(redis.call('ZRANGE', callbacks_dead, 0, -1)) do
  if string.sub(callback, 1, #start) == start and read_fields(callback_key(callback), 'job')[1] == id then
    redis.call('ZREM', callbacks_dead, callback)
    redis.call('DEL', callback_key(callback))
  end
end
return 'requeued'
