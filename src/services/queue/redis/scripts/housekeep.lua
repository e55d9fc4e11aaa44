-- Forgets finished jobs and dead callbacks older than the retention. ARGV: retention ms, limit.
local before = now - tonumber(ARGV[3])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', finished, '-inf', before, 'LIMIT', 0, ARGV[4])) do
  redis.call('ZREM', finished, member)
  redis.call('ZREM', listing, member)
  redis.call('DEL', job_key(string.sub(member, 15)))
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', callbacks_dead, '-inf', before, 'LIMIT', 0, ARGV[4])) do
  redis.call('ZREM', callbacks_dead, id)
  redis.call('DEL', callback_key(id))
end
return 1
