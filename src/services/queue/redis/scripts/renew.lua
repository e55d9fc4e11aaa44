-- with: drains
-- Extends a lease. ARGV: token, lease ms. Returns {held, cancel requested}.
local token = ARGV[3]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'id', 'cancel')
if (entry[1] or '') == '' then return { 0, 0 } end
redis.call('ZADD', leases, now + tonumber(ARGV[4]), token)
local cancel = entry[3] == '1' or (entry[2] ~= '' and redis.call('HGET', job_key(entry[2]), 'cancel') == '1')
return { 1, cancel and 1 or 0 }
