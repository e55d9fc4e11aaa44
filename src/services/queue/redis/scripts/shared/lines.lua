-- Moving entries between a queue's lines, and finding them.

-- Puts a leased entry back in line, first among those due by then. Without a worker it is nobody's.
local function hand_back(token, attempts, due, reason)
  redis.call('ZREM', leases, token)
  redis.call('ZADD', delayed, due, token)
  redis.call('HSET', entry_key(token), 'attempts', attempts, 'worker', '')
  local id = redis.call('HGET', entry_key(token), 'id')
  if id ~= '' then
    local job = redis.call('HMGET', job_key(id), 'status', 'entry')
    if job[1] and not is_terminal(job[1]) and job[2] == token then
      redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', attempts, 'progress', '')
      if reason ~= '' then redis.call('HSET', job_key(id), 'lastError', reason) end
    end
  end
  if due <= now then redis.call('PUBLISH', prefix .. 'wake', list) end
  return id
end

-- Finds a job that has no record yet: reserved, waiting for a retry, or pushed and never looked at (as far as `limit`).
-- Returns where, the token or payload, and how many are before it.
local function locate(id, limit)
  for _, token in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    if redis.call('HGET', entry_key(token), 'id') == id then return 'leased', token, -1 end
  end
  local waiting = redis.call('ZRANGE', delayed, 0, limit - 1)
  for index, token in ipairs(waiting) do
    if redis.call('HGET', entry_key(token), 'id') == id then return 'delayed', token, index - 1 end
  end
  local seen = 0
  while seen < limit do
    local chunk = redis.call('LRANGE', list, -seen - 200, -seen - 1)
    for index = #chunk, 1, -1 do
      if string.find(chunk[index], id, 1, true) and peek(chunk[index]) == id then
        return 'list', chunk[index], #waiting + seen + #chunk - index
      end
    end
    if #chunk < 200 then break end
    seen = seen + 200
  end
  return nil
end
