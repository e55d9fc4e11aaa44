-- with: drains callbacks
-- Takes due callbacks for a relay. ARGV: limit, claim ms.
-- Returns {ms until the next is due or -1, {id, entry, attempts, next attempt, error or ''}...}; the entry is empty where it cannot be
-- read.
local limit, until_ms = tonumber(ARGV[3]), now + math.max(1, tonumber(ARGV[4]))
local claimed = {}
while #claimed < limit do
  local ids = redis.call('ZRANGEBYSCORE', callbacks_due, '-inf', now, 'LIMIT', 0, limit - #claimed)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local entry = redis.pcall('HMGET', callback_key(id), 'entry', 'attempts', 'next', 'error', 'superseded')
    if entry.err then
      redis.call('ZADD', callbacks_due, until_ms, id)
      claimed[#claimed + 1] = { id, '', '', '', '' }
    elseif entry[1] and not entry[5] then
      redis.call('HSET', callback_key(id), 'claimed', until_ms)
      redis.call('HDEL', callback_key(id), 'replaced')
      redis.call('ZADD', callbacks_due, until_ms, id)
      claimed[#claimed + 1] = { id, entry[1], entry[2] or '', entry[3] or '', entry[4] or '' }
    else
      -- Its relay died with it on the way, and the job has ended since.
      remove_callback(id)
    end
  end
end
local next_due = redis.call('ZRANGE', callbacks_due, 0, 0, 'WITHSCORES')
local wait = next_due[2] and next_due[2] ~= 'inf' and math.max(0, tonumber(next_due[2]) - now) or -1
return { wait, unpack(claimed) }
