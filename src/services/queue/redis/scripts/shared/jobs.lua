-- Records. An empty field counts as an absent one.
local listing = prefix .. 'jobs'

-- The same order as listingKey in records.ts: newest first.
local function listing_member(id, created) return string.format('%013.0f', 9999999999999 - created) .. ':' .. id end

-- What a payload says of its job, from position `at` of the arguments: id, type, user, identity, id as written, what is asked for.
local function job_at(at)
  return { id = ARGV[at], kind = ARGV[at + 1], user = ARGV[at + 2], identity = ARGV[at + 3], written = ARGV[at + 4],
    request = ARGV[at + 5] }
end

local function create_job(job, created)
  redis.call('HSET', job_key(job.id), 'type', job.kind, 'user', job.user, 'queue', list, 'created', created, 'status', 'queued',
    'attempts', 0, 'identity', job.identity, 'since', created, 'request', job.request)
  if job.written ~= job.id then redis.call('HSET', job_key(job.id), 'written', job.written) end
  redis.call('ZADD', listing, 0, listing_member(job.id, created))
end

-- An id alone proves nothing: the record may be another job's. Records of older versions know no identity.
local function is_foreign(job)
  local known = redis.pcall('HMGET', job_key(job.id), 'status', 'identity', 'type', 'user')
  -- What stands there is no record at all.
  if known.err then return true end
  if not known[1] then return false end
  if (known[2] or '') ~= '' then return known[2] ~= job.identity end
  return known[3] ~= job.kind or known[4] ~= job.user
end

local function drop_entry(token)
  redis.call('ZREM', leases, token)
  redis.call('ZREM', delayed, token)
  redis.call('DEL', entry_key(token), payload_key(token))
end

-- Tells a leased entry whose it is, and begins its job if asked to. A job that is finished, or stands on its queue through
-- another entry, is not begun: its reservation is dropped.
-- Returns {begun, claimed, foreign, duplicate or lost, queued at, cancel requested}.
local function claim_job(token, job, worker, begins)
  local entry = redis.call('HMGET', entry_key(token), 'worker', 'queued', 'attempts', 'cancel')
  if (entry[1] or '') == '' then return { 'lost', 0, 0 } end
  local queued = tonumber(entry[2])
  if is_foreign(job) then return { 'foreign', queued, 0 } end
  local key = job_key(job.id)
  local known = redis.call('HMGET', key, 'status', 'entry', 'cancel', 'created')
  local stands_elsewhere = known[1] and (is_terminal(known[1]) or belongs_elsewhere(known[2], token))
  if stands_elsewhere and begins then
    drop_entry(token)
    return { 'duplicate', queued, 0 }
  end
  redis.call('HSET', entry_key(token), 'id', job.id, 'type', job.kind, 'user', job.user)
  local cancel = entry[4] == '1'
  if known[1] and not stands_elsewhere then
    queued = tonumber(known[4])
    cancel = cancel or known[3] == '1'
    redis.call('HSET', entry_key(token), 'queued', queued)
    redis.call('HSET', key, 'entry', token)
  end
  if not begins then return { 'claimed', queued, cancel and 1 or 0 } end
  if not known[1] then create_job(job, queued) end
  redis.call('HSET', key, 'status', 'processing', 'type', job.kind, 'user', job.user, 'attempts', entry[3], 'worker', worker,
    'entry', token, 'payload', '', 'since', now, 'retryAt', '')
  redis.call('HSETNX', key, 'started', now)
  if cancel then redis.call('HSET', key, 'cancel', '1') end
  tell(job.id)
  return { 'begun', queued, cancel and 1 or 0 }
end

-- Terminal state from position `at`: status, assets, error, metadata, retention in ms, then the callback. `entry` keeps the
-- token that finished the job, so that the same call sent twice gets the same answer.
local function finish_job(id, token, at)
  local key = job_key(id)
  end_attempt(id, ARGV[at], ARGV[at + 2])
  redis.call('HSET', key, 'status', ARGV[at], 'finished', now, 'entry', token, 'assets', ARGV[at + 1], 'metadata', ARGV[at + 3],
    'since', now, 'retryAt', '')
  if ARGV[at + 2] ~= '' then redis.call('HSET', key, 'error', ARGV[at + 2]) end
  redis.call('PEXPIRE', key, ARGV[at + 4])
  tell(id)
  add_terminal_callback(id, callback_at(at + 5))
end

local function was_finished_by(id, token)
  if id == '' then return false end
  local job = redis.call('HMGET', job_key(id), 'status', 'entry')
  return is_terminal(job[1]) and job[2] == token
end
