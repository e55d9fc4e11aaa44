-- Put in front of every script: names, the clock, and the steps that several scripts share.
-- Fixed keys come in KEYS, always in this order; keys of single jobs, entries and callbacks are made from the prefix.
-- docs/queue.md describes what each key holds.
local list, delayed, leases = KEYS[1], KEYS[2], KEYS[3]
local listing, finished, deadletters = KEYS[4], KEYS[5], KEYS[6]
local callbacks_due, callbacks_dead = KEYS[7], KEYS[8]
local prefix = ARGV[1]

-- The server's clock, so that workers need not agree on the time. A test may bring its own.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function job_key(id) return prefix .. 'job:' .. id end
local function entry_key(token) return prefix .. 'entry:' .. token end
local function callback_key(id) return prefix .. 'callback:' .. id end
local function lane_key(job_id) return prefix .. 'lane:' .. job_id end

local function is_terminal(status) return status == 'completed' or status == 'failed' or status == 'cancelled' end
local function is_terminal_event(event) return event == 'completed' or event == 'failed' end
local function is_held(token) return redis.call('ZSCORE', leases, token) ~= false end

-- The same order as listingKey in records.ts: newest first.
local function listing_member(id, created) return string.format('%013.0f', 9999999999999 - created) .. ':' .. id end

-- What the store reads of a payload that nobody has validated; the same rule as peek-payload.ts.
local function peek(payload)
  local ok, value = pcall(cjson.decode, payload)
  if not ok or type(value) ~= 'table' then return '', '', '' end
  local id, kind, user = value.id, value.type, value.user_id
  if type(id) ~= 'string' or #id > 128 or not string.find(id, '^[%w_.:%-]+$') then id = '' end
  if type(kind) ~= 'string' then kind = '' end
  if type(user) ~= 'string' then user = '' end
  return id, kind, user
end

-- Callbacks: one lane (list of ids) per job. Only the head of a lane has a finite score in callbacks_due.
local function remove_callback(id, keep)
  local job_id = redis.call('HGET', callback_key(id), 'job')
  redis.call('ZREM', callbacks_due, id)
  if not keep then redis.call('DEL', callback_key(id)) end
  if not job_id then return end
  redis.call('LREM', lane_key(job_id), 1, id)
  local head = redis.call('LINDEX', lane_key(job_id), 0)
  if head and redis.call('ZSCORE', callbacks_due, head) == 'inf' then
    redis.call('ZADD', callbacks_due, redis.call('HGET', callback_key(head), 'next'), head)
  end
end

local function is_on_its_way(id)
  local claimed = redis.call('HGET', callback_key(id), 'claimed')
  return claimed and tonumber(claimed) > now
end

local function add_callback(id, job_id, event, entry, attempts, next_ms)
  local key = callback_key(id)
  local score = redis.call('ZSCORE', callbacks_due, id)
  if not score then
    redis.call('ZREM', callbacks_dead, id)
    redis.call('DEL', key)
    redis.call('RPUSH', lane_key(job_id), id)
    if redis.call('LINDEX', lane_key(job_id), 0) ~= id then score = 'inf' end
  elseif is_on_its_way(id) then
    redis.call('HSET', key, 'replaced', '1')
  end
  redis.call('HSET', key, 'entry', entry, 'job', job_id, 'event', event, 'next', next_ms, 'attempts', attempts)
  redis.call('HDEL', key, 'error')
  if score == 'inf' then
    redis.call('ZADD', callbacks_due, '+inf', id)
  elseif not is_on_its_way(id) then
    redis.call('ZADD', callbacks_due, next_ms, id)
  end
end

-- A terminal callback drops what is still to be said before it, except what a relay is sending right now.
local function add_terminal_callback(job_id, callback)
  for _, id in ipairs(redis.call('LRANGE', lane_key(job_id), 0, -1)) do
    if id ~= callback.id then
      if is_on_its_way(id) then redis.call('HSET', callback_key(id), 'superseded', '1') else remove_callback(id) end
    end
  end
  if callback.id ~= '' then add_callback(callback.id, job_id, callback.event, callback.entry, callback.attempts, callback.next) end
end

-- Five arguments of a callback from position `at`; an empty id means none.
local function callback_at(at)
  return { id = ARGV[at], event = ARGV[at + 1], entry = ARGV[at + 2], attempts = ARGV[at + 3], next = ARGV[at + 4] }
end

-- Terminal state from position `at`: status, assets, error, metadata, retention in ms, then the callback.
local function finish_job(id, token, at)
  local key = job_key(id)
  local created = tonumber(redis.call('HGET', key, 'created'))
  redis.call('HSET', key, 'status', ARGV[at], 'assets', ARGV[at + 1], 'metadata', ARGV[at + 3], 'finished', now, 'finishedBy', token)
  redis.call('HDEL', key, 'entry', 'payload', 'error')
  if ARGV[at + 2] ~= '' then redis.call('HSET', key, 'error', ARGV[at + 2]) end
  redis.call('PEXPIRE', key, ARGV[at + 4])
  redis.call('ZADD', finished, now, listing_member(id, created))
  add_terminal_callback(id, callback_at(at + 5))
end

local function create_job(id, kind, user, queue, created)
  redis.call('HSET', job_key(id), 'id', id, 'type', kind, 'user', user, 'queue', queue, 'created', created, 'status', 'queued', 'attempts', 0)
  redis.call('ZADD', listing, 0, listing_member(id, created))
end

-- The entry that stands for a job on its queue, if it is another one than `token` and still there.
local function belongs_elsewhere(entry, token)
  return entry and entry ~= token and redis.call('EXISTS', entry_key(entry)) == 1
end

local function drop_entry(token)
  redis.call('ZREM', leases, token)
  redis.call('ZREM', delayed, token)
  redis.call('DEL', entry_key(token))
end

-- Puts a leased entry back in line, first among those due by then.
local function hand_back(token, attempts, due, reason)
  redis.call('ZREM', leases, token)
  redis.call('ZADD', delayed, due, token)
  redis.call('HSET', entry_key(token), 'attempts', attempts)
  local id = redis.call('HGET', entry_key(token), 'id')
  if id ~= '' then
    local job = redis.call('HMGET', job_key(id), 'status', 'entry')
    if job[1] and not is_terminal(job[1]) and job[2] == token then
      redis.call('HSET', job_key(id), 'status', 'queued', 'attempts', attempts)
      redis.call('HDEL', job_key(id), 'progress')
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
