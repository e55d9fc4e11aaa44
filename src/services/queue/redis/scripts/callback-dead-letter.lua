-- with: drains callbacks
-- Gives a callback up and keeps it. ARGV: callback id, reason.
local id = ARGV[3]
if not redis.call('ZSCORE', callbacks_due, id) then return 0 end
-- Where it cannot be read, neither can it be written: it is set aside as it is.
redis.pcall('HINCRBY', callback_key(id), 'attempts', 1)
redis.pcall('HSET', callback_key(id), 'error', ARGV[4])
redis.pcall('HDEL', callback_key(id), 'claimed', 'replaced')
remove_callback(id, true)
redis.call('ZADD', callbacks_dead, now, id)
trim_dead_callbacks(100)
return 1
