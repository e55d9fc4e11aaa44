-- Put in front of every script: names and the clock. A script's first line may ask for more: `-- with: jobs callbacks`.
-- KEYS: the producers' list, then the zsets of this queue's delayed entries and leases. All other keys are made from the
-- prefix, because most belong to single jobs that only the script finds; docs/queue.md describes what each holds.
-- No script looks into a payload: read-payload.ts is the only reader, and says what it read.
local list, delayed, leases = KEYS[1], KEYS[2], KEYS[3]
local prefix = ARGV[1]

-- The server's clock, so that workers need not agree on the time. A test may bring its own.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function job_key(id) return prefix .. 'job:' .. id end
local function entry_key(token) return prefix .. 'entry:' .. token end
local function payload_key(token) return prefix .. 'payload:' .. token end

-- What is no number reads as `default`, nil unless said otherwise.
local function number_or(value, default)
  if type(value) == 'number' then return value end
  return type(value) == 'string' and tonumber(value) or default
end

-- Fields of a hash; none of a key that holds something else: one of them must not stop what goes over many.
local function read_fields(key, ...)
  local fields = redis.pcall('HMGET', key, ...)
  return fields.err and {} or fields
end

local function is_terminal(status) return status == 'completed' or status == 'failed' or status == 'cancelled' end

-- The entry that stands for a job on its queue, if it is another one than `token` and still there.
local function belongs_elsewhere(entry, token)
  return entry and entry ~= '' and entry ~= token and redis.call('EXISTS', entry_key(entry)) == 1
end
