-- with: drains lines
-- Takes back what nobody renewed, oldest lease first. ARGV: limit. Returns job ids.
local ids = {}
for _, token in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local entry = read_fields(entry_key(token), 'attempts', 'queued', 'worker')
  if entry[1] then
    ids[#ids + 1] = hand_back(token, entry[1], math.min(now, number_or(entry[2], now)), 'lost',
      'the lease of ' .. (entry[3] or '?') .. ' ran out')
  else
    -- What is left of it is looked at in line.
    redis.call('ZREM', leases, token)
    redis.call('ZADD', delayed, now, token)
  end
end
return ids
