-- with: drains callbacks
-- ARGV: callback id, ms until the next attempt, error.
local id = ARGV[3]
if not redis.call('ZSCORE', callbacks_due, id) then return 0 end
if redis.call('HGET', callback_key(id), 'superseded') then
  remove_callback(id)
  return 0
end
redis.call('HINCRBY', callback_key(id), 'attempts', 1)
local due = now + tonumber(ARGV[4])
redis.call('HSET', callback_key(id), 'next', due, 'error', ARGV[5])
redis.call('HDEL', callback_key(id), 'claimed', 'replaced')
redis.call('ZADD', callbacks_due, due, id)
return 1
