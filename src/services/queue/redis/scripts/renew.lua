-- Extends a lease. ARGV: token, lease ms. Returns {held, cancel requested}.
local token = ARGV[3]
if not is_held(token) then return { 0, 0 } end
redis.call('ZADD', leases, now + tonumber(ARGV[4]), token)
local entry = redis.call('HMGET', entry_key(token), 'id', 'cancel')
local cancel = entry[2] == '1' or (entry[1] ~= '' and redis.call('HGET', job_key(entry[1]), 'cancel') == '1')
return { 1, cancel and 1 or 0 }
