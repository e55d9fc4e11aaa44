-- with: callbacks jobs lines
-- ARGV: job id, queue, how far to search, then the terminal state for a job that still waits.
-- Returns cancelled, requested, finished or unknown.
local id, queue, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = redis.call('HMGET', job_key(id), 'status', 'entry', 'payload')

local function request(token)
  if token then redis.call('HSET', entry_key(token), 'cancel', '1') end
  redis.call('PUBLISH', prefix .. 'cancel', id)
  return 'requested'
end

if job[1] then
  if is_terminal(job[1]) then return 'finished' end
  if job[1] == 'processing' then
    redis.call('HSET', job_key(id), 'cancel', '1')
    return request(nil)
  end
  if job[2] and job[2] ~= '' and redis.call('ZSCORE', delayed, job[2]) then
    drop_entry(job[2])
  elseif (job[3] or '') ~= '' then
    -- Gone already when someone has just reserved it: `begin` then finds the job finished.
    redis.call('LREM', list, -1, job[3])
  end
else
  local where, what = locate(id, limit)
  if not where then return 'unknown' end
  if where == 'leased' then return request(what) end
  local created, kind, user = now, '', ''
  if where == 'delayed' then
    local _
    _, kind, user = peek(redis.call('GET', payload_key(what)))
    created = redis.call('HGET', entry_key(what), 'queued')
    drop_entry(what)
  else
    local _
    _, kind, user = peek(what)
    redis.call('LREM', list, -1, what)
  end
  create_job(id, kind, user, queue, created)
end
redis.call('HSET', job_key(id), 'cancel', '1', 'payload', '')
finish_job(id, '', 6)
return 'cancelled'
