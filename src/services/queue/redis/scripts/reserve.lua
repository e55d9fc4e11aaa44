-- with: drains callbacks jobs letters lines
-- Takes the next payload and leases it in one step: due retries first, then the right end of the producers' list.
-- ARGV: token, worker, lease ms, most bytes of a payload, what to take from the list (`next`, `none`, or `this`), the payload
-- meant by `this`, a guess at what is taken by its SHA-1 ('' for none) with its job (6) and 1 to begin it, how many payloads
-- behind it to show, excluded types of retries...
-- Returns {1, payload, attempt, queued at, cancel requested, expires at, what became of a right guess or '', payload behind it...},
-- where the payload is gone with nil in its place, and its job (id, type, user, identity, id as written) in place of what is behind;
-- {2} when something else has to be tried (the payload meant is gone, too large, or a duplicate); {0, ms until the next retry or -1,
-- 1 when something waits on the list, 2 when nothing may be taken: an operator holds the queue or the worker}.
local token, worker, lease_ms, largest, source, meant = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local guess, ahead = ARGV[9], tonumber(ARGV[17])
local excluded = {}
for i = 18, #ARGV do excluded[ARGV[i]] = true end

local function reserved(outcome)
  local entry = redis.call('HMGET', entry_key(token), 'attempts', 'queued', 'cancel', 'id', 'type', 'user')
  local payload = redis.call('GET', payload_key(token))
  local answer = { 1, payload, number_or(entry[1], 1), number_or(entry[2], now), entry[3] == '1' and 1 or 0, now + lease_ms, outcome }
  if payload then return answer end
  local job = read_fields(job_key(entry[4] or ''), 'identity', 'written')
  for _, known in ipairs({ entry[4] or '', entry[5] or '', entry[6] or '', job[1] or '', job[2] or '' }) do answer[#answer + 1] = known end
  return answer
end

-- The client sends a command again when the connection broke before the answer: the same token is the same reservation.
if redis.call('ZADD', leases, 'NX', now + lease_ms, token) == 0 then return reserved('') end

local held = read_fields(prefix .. 'holds', list, 'worker:' .. worker)
if held[1] or held[2] then
  redis.call('ZREM', leases, token)
  return { 0, -1, 2 }
end

local function is_payload(token) return redis.call('TYPE', payload_key(token)).ok == 'string' end

local function keep_broken(token)
  keep_letter('broken-' .. token, 'payload', '', 'reason', 'its entry ' .. token .. ' in Redis cannot be read', 'attempts', 0,
    'token', token)
  drop_entry(token)
end

local function take_retry()
  local offset, broken = 0, false
  while true do
    local tokens = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', offset, 50)
    for _, old in ipairs(tokens) do
      local entry, has_payload = read_fields(entry_key(old), 'type', 'id', 'attempts'), is_payload(old)
      if not entry[3] and has_payload then
        -- Gone, or another program's: the payload says again whose it is.
        redis.call('DEL', entry_key(old))
        redis.call('HSET', entry_key(old), 'id', '', 'type', '', 'user', '', 'queued', now)
        entry = { '', '', 0 }
      end
      if not entry[3] or (not has_payload and (entry[2] or '') == '') then
        -- Nothing is left to go on with.
        keep_broken(old)
        broken = true
      elseif not excluded[entry[1] or ''] then
        redis.call('ZREM', delayed, old)
        redis.call('RENAME', entry_key(old), entry_key(token))
        if has_payload then redis.call('RENAME', payload_key(old), payload_key(token)) else redis.call('DEL', payload_key(old)) end
        redis.call('HSET', entry_key(token), 'attempts', number_or(entry[3], 0) + 1, 'worker', worker)
        -- The record names the entry that stands for it.
        local id = redis.call('HGET', entry_key(token), 'id')
        if id ~= '' and read_fields(job_key(id), 'entry')[1] == old then redis.call('HSET', job_key(id), 'entry', token) end
        return true
      end
    end
    if broken then
      broken = false
    else
      if #tokens < 50 then return false end
      offset = offset + 50
    end
  end
end

if take_retry() then return reserved('') end

local payload
if source == 'next' then
  payload = redis.call('RPOP', list)
elseif source == 'this' then
  -- Equal bytes nearer the right end would have been meant, so the first match from there is it.
  if redis.call('LREM', list, -1, meant) == 0 then
    redis.call('ZREM', leases, token)
    return { 2 }
  end
  payload = meant
end
if not payload or #payload > largest then
  redis.call('ZREM', leases, token)
  if payload then
    keep_beginning(payload)
    return { 2 }
  end
  local next_retry = redis.call('ZRANGEBYSCORE', delayed, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return { 0, next_retry[2] and tonumber(next_retry[2]) - now or -1, redis.call('LLEN', list) > 0 and 1 or 0 }
end
redis.call('SET', payload_key(token), payload)
redis.call('HSET', entry_key(token), 'id', '', 'type', '', 'user', '', 'attempts', 1, 'queued', now, 'worker', worker)
local outcome = ''
if guess ~= '' and redis.sha1hex(payload) == guess then
  outcome = claim_job(token, job_at(10), worker, ARGV[16] == '1')[1]
  if outcome == 'duplicate' then return { 2 } end
end
local answer = reserved(outcome)
for index = 1, ahead do
  local behind = redis.call('LINDEX', list, -index)
  if not behind or #behind > 4096 then break end
  answer[#answer + 1] = behind
end
return answer
