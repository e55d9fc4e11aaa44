-- with: drains lines
-- Back to the front (before what came later, and at once if the clock was put back); the attempt does not count.
-- ARGV: token, reason.
local token = ARGV[3]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'attempts', 'queued')
if (entry[1] or '') == '' then return 0 end
hand_back(token, math.max(0, tonumber(entry[2]) - 1), math.min(now, tonumber(entry[3])), 'handed_back', ARGV[4])
return 1
