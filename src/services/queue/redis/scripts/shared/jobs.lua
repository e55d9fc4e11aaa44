-- Records. An empty field counts as an absent one.
local listing = prefix .. 'jobs'

-- The same order as listingKey in records.ts: newest first.
local function listing_member(id, created) return string.format('%013.0f', 9999999999999 - created) .. ':' .. id end

local function create_job(id, kind, user, queue, created)
  redis.call('HSET', job_key(id), 'id', id, 'type', kind, 'user', user, 'queue', queue, 'created', created, 'status', 'queued', 'attempts', 0)
  redis.call('ZADD', listing, 0, listing_member(id, created))
end

local function drop_entry(token)
  redis.call('ZREM', leases, token)
  redis.call('ZREM', delayed, token)
  redis.call('DEL', entry_key(token), payload_key(token))
end

-- Terminal state from position `at`: status, assets, error, metadata, retention in ms, then the callback.
local function finish_job(id, token, at)
  local key = job_key(id)
  redis.call('HSET', key, 'status', ARGV[at], 'finished', now, 'finishedBy', token, 'entry', '', 'payload', '', 'assets', ARGV[at + 1], 'error', ARGV[at + 2], 'metadata', ARGV[at + 3])
  redis.call('PEXPIRE', key, ARGV[at + 4])
  add_terminal_callback(id, callback_at(at + 5))
end
