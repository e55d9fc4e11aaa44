-- with: callbacks jobs
-- Acknowledges and keeps the payload with its reason; fails the job unless it is finished or runs elsewhere.
-- ARGV: token, letter id, reason, queue, job id of the result ('' for none), type, user, then the terminal state.
local token, letter, reason, queue, id = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'id', 'attempts', 'queued', 'type')
if (entry[1] or '') == '' then return was_finished_by(id, token) and 1 or 0 end
local payload = redis.call('GET', payload_key(token))
redis.call('HSET', prefix .. 'deadletter:' .. letter, 'payload', payload, 'job', entry[2], 'attempts', entry[3], 'reason', reason, 'queue', queue, 'at', now, 'token', token)
redis.call('ZADD', prefix .. 'deadletters', now, letter)
drop_entry(token)
if id == '' then return 1 end
local job = redis.call('HMGET', job_key(id), 'status', 'entry')
if not job[1] then
  local _, _, user = peek(payload)
  create_job(id, ARGV[8] ~= '' and ARGV[8] or entry[5], ARGV[9] ~= '' and ARGV[9] or user, queue, entry[4])
end
if not is_terminal(job[1]) and not belongs_elsewhere(job[2], token) then
  redis.call('HSET', job_key(id), 'attempts', entry[3])
  finish_job(id, token, 10)
end
return 1
