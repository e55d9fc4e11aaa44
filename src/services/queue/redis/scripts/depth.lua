-- Returns {waiting, delayed, running, age of the oldest waiting job in ms or -1}. Raw pushes carry no time of their own.
local due = redis.call('ZCOUNT', delayed, '-inf', now)
local oldest
for _, token in ipairs(redis.call('ZRANGE', delayed, 0, 99)) do
  local queued = tonumber(redis.call('HGET', entry_key(token), 'queued'))
  if queued and (not oldest or queued < oldest) then oldest = queued end
end
local first = redis.call('LINDEX', list, -1)
if first then
  local id = peek(first)
  local created = id ~= '' and tonumber(redis.call('HGET', job_key(id), 'created') or nil)
  if created and (not oldest or created < oldest) then oldest = created end
end
return { redis.call('LLEN', list) + due, redis.call('ZCARD', delayed) - due, redis.call('ZCARD', leases), oldest and now - oldest or -1 }
