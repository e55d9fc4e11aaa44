-- with: jobs
-- Takes the next payload and leases it in one step: due retries first, then the right end of the producers' list.
-- ARGV: token, worker, lease ms, how many excluded payloads may be passed over, known types (`,a,b,`) of which a job is begun
-- at once ('' to begin none), excluded types...
-- Returns {1, payload, job id, attempt, queued at, cancel requested, expires at, begun}, or {0, ms until the next retry or -1, 1 when only excluded types wait}.
local token, worker, lease_ms, scan_limit = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local begin_types = ARGV[7]
local excluded, excludes = {}, #ARGV > 7
for i = 8, #ARGV do excluded[ARGV[i]] = true end

-- The client sends a command again when the connection broke before the answer: the same token is the same reservation.
if redis.call('ZADD', leases, 'NX', now + lease_ms, token) == 0 then
  local entry = redis.call('HMGET', entry_key(token), 'id', 'attempts', 'queued', 'cancel')
  return { 1, redis.call('GET', payload_key(token)), entry[1], tonumber(entry[2]), tonumber(entry[3]), entry[4] == '1' and 1 or 0, now + lease_ms, redis.call('HGET', job_key(entry[1]), 'entry') == token and 1 or 0 }
end

local function take_retry()
  local offset = 0
  while true do
    local tokens = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', offset, 50)
    for _, old in ipairs(tokens) do
      if not excludes or not excluded[redis.call('HGET', entry_key(old), 'type')] then
        redis.call('ZREM', delayed, old)
        redis.call('RENAME', entry_key(old), entry_key(token))
        redis.call('RENAME', payload_key(old), payload_key(token))
        return old
      end
    end
    if #tokens < 50 then return nil end
    offset = offset + 50
  end
end

local function take_new()
  if not excludes then return redis.call('RPOP', list) end
  local seen = 0
  while seen < scan_limit do
    local chunk = redis.call('LRANGE', list, -seen - 50, -seen - 1)
    for index = #chunk, 1, -1 do
      local _, kind = peek(chunk[index])
      if not excluded[kind] then
        -- Equal bytes nearer the right end would have been chosen, so the first match from there is this one.
        redis.call('LREM', list, -1, chunk[index])
        return chunk[index]
      end
    end
    if #chunk < 50 then return false end
    seen = seen + 50
  end
  return false
end

-- Begins the job of a new or returned entry. False when another entry stands for it, or it has ended.
local function begin(id, kind, user, attempts, queued, job)
  if job[1] then
    if is_terminal(job[1]) or belongs_elsewhere(job[2], token) then return false end
    redis.call('HSET', job_key(id), 'status', 'processing', 'attempts', attempts, 'worker', worker, 'entry', token, 'payload', '')
    redis.call('HSETNX', job_key(id), 'started', now)
  else
    redis.call('HSET', job_key(id), 'status', 'processing', 'type', kind, 'user', user, 'attempts', attempts, 'worker', worker, 'entry', token, 'created', queued, 'started', now)
    redis.call('ZADD', listing, 0, listing_member(id, queued))
  end
  return true
end

while true do
  local old = take_retry()
  local payload, id, kind, user, attempts, queued, cancel
  if old then
    payload = redis.call('GET', payload_key(token))
    attempts = redis.call('HINCRBY', entry_key(token), 'attempts', 1)
    redis.call('HSET', entry_key(token), 'worker', worker)
    local entry = redis.call('HMGET', entry_key(token), 'id', 'queued', 'cancel', 'type')
    id, queued, cancel, kind = entry[1], tonumber(entry[2]), entry[3], entry[4]
    if begin_types ~= '' then user = select(3, peek(payload)) end
  else
    payload = take_new()
    if not payload then
      redis.call('ZREM', leases, token)
      local next_retry = redis.call('ZRANGEBYSCORE', delayed, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      local passed_over = excludes and (redis.call('LLEN', list) > 0) and 1 or 0
      return { 0, next_retry[2] and tonumber(next_retry[2]) - now or -1, passed_over }
    end
    id, kind, user = peek(payload)
    attempts, queued = 1, now
    redis.call('SET', payload_key(token), payload)
    redis.call('HSET', entry_key(token), 'id', id, 'type', kind, 'attempts', 1, 'queued', now, 'worker', worker)
  end

  local begun, duplicate = false, false
  if id ~= '' then
    local job = redis.call('HMGET', job_key(id), 'status', 'entry', 'cancel', 'created')
    if job[1] and not is_terminal(job[1]) then
      if not old and not belongs_elsewhere(job[2], token) then
        queued = tonumber(job[4])
        redis.call('HSET', entry_key(token), 'queued', queued)
      end
      if job[3] == '1' then cancel = '1' end
    end
    if begin_types ~= '' and kind ~= '' and not string.find(kind, ',', 1, true) and string.find(begin_types, ',' .. kind .. ',', 1, true) then
      begun = begin(id, kind, user, attempts, queued, job)
      duplicate = not begun
      if begun and cancel == '1' then redis.call('HSET', job_key(id), 'cancel', '1') end
    elseif job[1] and not is_terminal(job[1]) and not belongs_elsewhere(job[2], token) then
      redis.call('HSET', job_key(id), 'entry', token)
    end
  end
  if not duplicate then return { 1, payload, id, attempts, queued, cancel == '1' and 1 or 0, now + lease_ms, begun and 1 or 0 } end
  redis.call('DEL', entry_key(token), payload_key(token))
end
