-- with: drains callbacks
-- ARGV: callback id. A body that was replaced while the older one was on its way is still to be sent.
local id = ARGV[3]
local state = redis.call('HMGET', callback_key(id), 'replaced', 'superseded', 'next')
if not redis.call('ZSCORE', callbacks_due, id) then return 0 end
if state[1] and not state[2] then
  redis.call('HDEL', callback_key(id), 'replaced', 'claimed')
  redis.call('ZADD', callbacks_due, state[3], id)
else
  remove_callback(id)
end
return 1
