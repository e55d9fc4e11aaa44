-- with: callbacks jobs
-- Creates a job and puts it on the list as a producer would.
-- ARGV: the job (6), payload, idempotency key ('' for none), fingerprint, retention ms, most that may wait (0: any number).
-- Returns {outcome, id of the job meant, how many wait before it}.
local job, payload = job_at(3), ARGV[9]
local id = job.id
local key = ARGV[10] ~= '' and prefix .. 'idempotency:' .. ARGV[10]
local known = id
if key then
  local before = redis.call('HMGET', key, 'job', 'fingerprint')
  if before[1] and before[2] ~= ARGV[11] then return { 'key_reused', id, 0 } end
  known = before[1] or id
end
local waiting = redis.call('LLEN', list) + redis.call('ZCARD', delayed)
if redis.call('EXISTS', job_key(known)) == 1 then
  return { known == id and is_foreign(job) and 'conflict' or 'exists', known, 0 }
end
local most = tonumber(ARGV[13])
if most > 0 and waiting >= most then return { 'full', id, 0 } end
create_job(job, now)
redis.call('HSET', job_key(id), 'payload', payload)
redis.call('LPUSH', list, payload)
tell(id)
if key then
  redis.call('HSET', key, 'job', id, 'fingerprint', ARGV[11])
  redis.call('PEXPIRE', key, ARGV[12])
end
return { 'created', id, waiting }
