-- with: drains callbacks jobs letters
-- Forgets finished jobs, changes, dead callbacks and dead letters older than the retention, and the oldest beyond their number. Jobs are
-- looked at from the oldest on, as many as the limit allows, after the listing member where the last call stopped: a job made within
-- the retention cannot be due.
-- ARGV: retention ms, limit, listing member ('' for the oldest). Returns where to go on ('' when all were looked at).
local before, limit = now - tonumber(ARGV[3]), tonumber(ARGV[4])
forget_dead_callbacks(redis.call('ZRANGEBYSCORE', callbacks_dead, '-inf', before, 'LIMIT', 0, limit))
trim_dead_callbacks(limit)
redis.pcall('XTRIM', prefix .. 'changes', 'MINID', '~', string.format('%.0f', before))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', letters, '-inf', before, 'LIMIT', 0, limit)) do drop_letter(id) end
trim_letters(limit)
local oldest = ARGV[5] ~= '' and '(' .. ARGV[5] or '+'
local members = redis.call('ZREVRANGEBYLEX', listing, oldest, '[' .. listing_member('', before), 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  local key = job_key(string.sub(member, 15))
  local job = read_fields(key, 'status', 'finished')
  if not job[1] or (job[2] and number_or(job[2], 0) <= before) then
    redis.call('ZREM', listing, member)
    redis.call('DEL', key)
  end
end
return #members == limit and members[limit] or ''
