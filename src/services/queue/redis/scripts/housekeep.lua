-- with: callbacks jobs
-- Forgets finished jobs and dead callbacks older than the retention. Jobs are looked at from the oldest on, as many as the
-- limit allows, after the listing member where the last call stopped: a job made within the retention cannot be due.
-- ARGV: retention ms, limit, listing member ('' for the oldest). Returns where to go on ('' when all were looked at).
local before, limit = now - tonumber(ARGV[3]), tonumber(ARGV[4])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', callbacks_dead, '-inf', before, 'LIMIT', 0, limit)) do
  redis.call('ZREM', callbacks_dead, id)
  redis.call('DEL', callback_key(id))
end
local oldest = ARGV[5] ~= '' and '(' .. ARGV[5] or '+'
local members = redis.call('ZREVRANGEBYLEX', listing, oldest, '[' .. listing_member('', before), 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  local key = job_key(string.sub(member, 15))
  local job = redis.call('HMGET', key, 'status', 'finished')
  if not job[1] or (job[2] and tonumber(job[2]) <= before) then
    redis.call('ZREM', listing, member)
    redis.call('DEL', key)
  end
end
return #members == limit and members[limit] or ''
