-- Moving entries between a queue's lines, and looking at the producers' list.

-- Puts a leased entry back in line, first among those due by then. Without a worker it is nobody's.
local function hand_back(token, attempts, due, outcome, reason)
  redis.call('ZREM', leases, token)
  redis.call('ZADD', delayed, due, token)
  redis.call('HSET', entry_key(token), 'attempts', attempts, 'worker', '')
  local id = redis.call('HGET', entry_key(token), 'id')
  if id and id ~= '' then
    local job = read_fields(job_key(id), 'status', 'entry')
    if job[1] and not is_terminal(job[1]) and job[2] == token then
      end_attempt(id, outcome, reason)
      redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', attempts, 'progress', '', 'since', now, 'retryAt',
        due > now and due or '')
      if outcome ~= 'handed_back' then redis.call('HSET', job_key(id), 'lastError', reason) end
      tell(id)
    end
  end
  if due <= now then redis.call('PUBLISH', prefix .. 'wake', list) end
  return id or ''
end

-- What is too large to be read ends as a dead letter that keeps its beginning and its size.
local function keep_beginning(payload)
  local letter = 'oversized-' .. redis.call('INCR', prefix .. 'oversized')
  keep_letter(letter, 'payload', string.sub(payload, 1, 4096), 'bytes', #payload, 'reason',
    'the payload has ' .. #payload .. ' bytes, more than are read', 'attempts', 0, 'token', '')
end
