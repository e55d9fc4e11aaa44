-- with: drains lines
-- Back in line after a failed attempt. ARGV: token, delay ms, reason.
local token = ARGV[3]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'attempts')
if (entry[1] or '') == '' then return 0 end
hand_back(token, entry[2], now + tonumber(ARGV[4]), 'retried', ARGV[5])
return 1
