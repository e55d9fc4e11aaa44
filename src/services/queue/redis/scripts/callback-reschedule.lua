-- with: callbacks
-- ARGV: callback id, next attempt ms, error.
local id = ARGV[3]
if not redis.call('ZSCORE', callbacks_due, id) then return 0 end
if redis.call('HGET', callback_key(id), 'superseded') then
  remove_callback(id)
  return 0
end
redis.call('HINCRBY', callback_key(id), 'attempts', 1)
redis.call('HSET', callback_key(id), 'next', ARGV[4], 'error', ARGV[5])
redis.call('HDEL', callback_key(id), 'claimed', 'replaced')
redis.call('ZADD', callbacks_due, ARGV[4], id)
return 1
