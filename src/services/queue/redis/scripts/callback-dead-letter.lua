-- with: callbacks
-- Gives a callback up and keeps it. ARGV: callback id, reason.
local id = ARGV[3]
if not redis.call('ZSCORE', callbacks_due, id) then return 0 end
redis.call('HINCRBY', callback_key(id), 'attempts', 1)
redis.call('HSET', callback_key(id), 'error', ARGV[4])
redis.call('HDEL', callback_key(id), 'claimed', 'replaced')
remove_callback(id, true)
redis.call('ZADD', callbacks_dead, now, id)
return 1
