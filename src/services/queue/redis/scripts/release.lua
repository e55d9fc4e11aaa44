-- Back to the front; the attempt does not count. ARGV: token.
local token = ARGV[3]
if not is_held(token) then return 0 end
local entry = redis.call('HMGET', entry_key(token), 'attempts', 'queued')
hand_back(token, math.max(0, tonumber(entry[1]) - 1), tonumber(entry[2]), '')
return 1
