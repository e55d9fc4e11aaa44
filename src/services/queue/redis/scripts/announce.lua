-- with: drains
-- Says that a process is alive. ARGV: its id, what it says of itself (JSON), for how long that holds (ms).
local forget_at = string.format('%.0f', now + tonumber(ARGV[5]))
redis.call('HSET', prefix .. 'instances', ARGV[3], '{"forgetAtMs":' .. forget_at .. ',"instance":' .. ARGV[4] .. '}')
return 1
