-- with: callbacks jobs
-- Creates a job and puts it on the list as a producer would.
-- ARGV: job id, type, user, queue, payload, idempotency key ('' for none), fingerprint, retention ms, most that may wait (0: any number).
-- Returns {outcome, id of the job meant, how many wait before it}.
local id, kind, user, queue, payload = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local key = ARGV[8] ~= '' and prefix .. 'idempotency:' .. ARGV[8]
local known = id
if key then
  local before = redis.call('HMGET', key, 'job', 'fingerprint')
  if before[1] and before[2] ~= ARGV[9] then return { 'key_reused', id, 0 } end
  known = before[1] or id
end
local waiting = redis.call('LLEN', list) + redis.call('ZCARD', delayed)
if redis.call('EXISTS', job_key(known)) == 1 then return { 'exists', known, 0 } end
local most = tonumber(ARGV[11])
if most > 0 and waiting >= most then return { 'full', id, 0 } end
create_job(id, kind, user, queue, now)
redis.call('HSET', job_key(id), 'payload', payload)
redis.call('LPUSH', list, payload)
if key then
  redis.call('HSET', key, 'job', id, 'fingerprint', ARGV[9])
  redis.call('PEXPIRE', key, ARGV[10])
end
return { 'created', id, waiting }
