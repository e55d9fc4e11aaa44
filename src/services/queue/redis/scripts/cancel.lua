-- with: drains callbacks jobs
-- ARGV: the job (6), its payload on the list and the token of its entry (for a job without a record, either of them), when it was
-- queued, then the terminal state for a job that still waits. Returns cancelled, requested, finished, unknown, or moved: look again.
local job, payload, token, created = job_at(3), ARGV[9], ARGV[10], tonumber(ARGV[11])
local known = redis.pcall('HMGET', job_key(job.id), 'status', 'entry', 'payload')
-- What stands there is no record: nothing is known of the job.
if known.err then return 'unknown' end

local function request(entry)
  if entry then redis.call('HSET', entry_key(entry), 'cancel', '1') end
  redis.call('PUBLISH', prefix .. 'cancel', job.id)
  return 'requested'
end

if known[1] then
  if is_terminal(known[1]) then return 'finished' end
  if known[1] == 'processing' then
    redis.call('HSET', job_key(job.id), 'cancel', '1')
    return request(nil)
  end
  if known[2] and known[2] ~= '' and redis.call('ZSCORE', delayed, known[2]) then
    drop_entry(known[2])
  elseif (known[3] or '') ~= '' then
    -- Gone already when someone has just reserved it: it is then found finished.
    redis.call('LREM', list, -1, known[3])
  end
elseif token ~= '' then
  if redis.call('ZSCORE', leases, token) then return request(token) end
  if not redis.call('ZSCORE', delayed, token) then return 'moved' end
  drop_entry(token)
  create_job(job, created)
elseif payload ~= '' and redis.call('LREM', list, -1, payload) == 1 then
  create_job(job, created)
else
  return 'moved'
end
redis.call('HSET', job_key(job.id), 'cancel', '1', 'payload', '')
finish_job(job.id, '', 12)
return 'cancelled'
