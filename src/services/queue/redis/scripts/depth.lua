-- with: letters lines
-- ARGV: most bytes of a payload. Returns {waiting, delayed, running, when the oldest entry was queued or -1, now, the next payload
-- unless it is long}. Raw pushes carry no time of their own.
local due = redis.call('ZCOUNT', delayed, '-inf', now)
local oldest
for _, token in ipairs(redis.call('ZRANGE', delayed, 0, 99)) do
  local queued = number_or(read_fields(entry_key(token), 'queued')[1])
  if queued and (not oldest or queued < oldest) then oldest = queued end
end
local first = redis.call('LINDEX', list, -1)
while first and #first > tonumber(ARGV[3]) do
  redis.call('RPOP', list)
  keep_beginning(first)
  first = redis.call('LINDEX', list, -1)
end
return { redis.call('LLEN', list) + due, redis.call('ZCARD', delayed) - due, redis.call('ZCARD', leases), oldest or -1, now,
  first and #first <= 16384 and first or '' }
