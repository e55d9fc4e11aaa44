-- Back in line after a failed attempt. ARGV: token, delay ms, reason.
local token = ARGV[3]
if not is_held(token) then return 0 end
hand_back(token, redis.call('HGET', entry_key(token), 'attempts'), now + tonumber(ARGV[4]), ARGV[5])
return 1
