-- Records. An empty field counts as an absent one.
local listing = prefix .. 'jobs'

-- The same order as listingKey in records.ts: newest first.
local function listing_member(id, created) return string.format('%013.0f', 9999999999999 - created) .. ':' .. id end

local function create_job(id, kind, user, queue, created)
  redis.call('HSET', job_key(id), 'type', kind, 'user', user, 'queue', queue, 'created', created, 'status', 'queued', 'attempts', 0)
  redis.call('ZADD', listing, 0, listing_member(id, created))
end

local function drop_entry(token)
  redis.call('ZREM', leases, token)
  redis.call('ZREM', delayed, token)
  redis.call('DEL', entry_key(token), payload_key(token))
end

-- Terminal state from position `at`: status, assets, error, metadata, retention in ms, then the callback. `entry` keeps the
-- token that finished the job, so that the same call sent twice gets the same answer.
local function finish_job(id, token, at)
  local key = job_key(id)
  redis.call('HSET', key, 'status', ARGV[at], 'finished', now, 'entry', token, 'assets', ARGV[at + 1], 'metadata', ARGV[at + 3])
  if ARGV[at + 2] ~= '' then redis.call('HSET', key, 'error', ARGV[at + 2]) end
  redis.call('PEXPIRE', key, ARGV[at + 4])
  add_terminal_callback(id, callback_at(at + 5))
end

local function was_finished_by(id, token)
  if id == '' then return false end
  local job = redis.call('HMGET', job_key(id), 'status', 'entry')
  return is_terminal(job[1]) and job[2] == token
end
