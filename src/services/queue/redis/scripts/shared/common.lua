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

-- Says what has become of a job to whoever follows all of them, and keeps the last of it. A courtesy: a server that does not
-- take it, because it is full or the user may not, stops nothing.
local function tell(id)
  local job = redis.call('HMGET', job_key(id), 'type', 'user', 'queue', 'status', 'attempts', 'assets', 'error', 'written')
  redis.pcall('XADD', prefix .. 'changes', 'MAXLEN', '~', most_changes, '*', 'job', id, 'type', job[1] or '', 'user', job[2] or '',
    'queue', job[3] or '', 'status', job[4] or '', 'attempts', job[5] or '0', 'assets', job[6] or '', 'error', job[7] or '',
    'written', job[8] or '')
end

-- Notes that the attempt that runs has ended, in one line of `history`, which keeps the last of them.
local function end_attempt(id, outcome, error)
  local run = redis.call('HMGET', job_key(id), 'status', 'attempts', 'worker', 'since', 'started', 'history')
  if run[1] ~= 'processing' then return end
  local said = string.gsub(error, '[%c]', ' ')
  -- A character may have been cut in two.
  if #said > longest_attempt_error then said = string.gsub(string.sub(said, 1, longest_attempt_error), '[\192-\247][\128-\191]*$', '') end
  local lines = {}
  for line in string.gmatch(run[6] or '', '[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = table.concat({ run[2] or '0', outcome, run[3] or '', run[4] or run[5] or now, now, said }, '\t')
  redis.call('HSET', job_key(id), 'history', table.concat(lines, '\n', math.max(1, #lines - most_ended_attempts + 1)))
end

-- The entry that stands for a job on its queue, if it is another one than `token` and still there.
local function belongs_elsewhere(entry, token)
  return entry and entry ~= '' and entry ~= token and redis.call('EXISTS', entry_key(entry)) == 1
end
