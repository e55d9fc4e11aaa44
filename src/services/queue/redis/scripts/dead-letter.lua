-- with: drains callbacks jobs letters
-- Acknowledges and keeps the payload with its reason; fails its job unless that is finished, runs elsewhere, or is another one.
-- ARGV: token, letter id, reason, attempts made ('' for as many as it was handed out), the job of the result (6, an empty id for
-- none), then the terminal state.
local token, letter, job = ARGV[3], ARGV[4], job_at(7)
local entry = redis.call('HMGET', entry_key(token), 'worker', 'id', 'attempts', 'queued', 'type', 'user')
if (entry[1] or '') == '' then return was_finished_by(job.id, token) and 1 or 0 end
local attempts = ARGV[6] ~= '' and ARGV[6] or entry[3]
keep_letter(letter, 'payload', redis.call('GET', payload_key(token)) or '', 'job', entry[2], 'attempts', attempts, 'reason', ARGV[5],
  'token', token)
drop_entry(token)
if job.id == '' then return 1 end
if job.kind == '' then job.kind = entry[5] end
if job.user == '' then job.user = entry[6] or '' end
local known = redis.call('HMGET', job_key(job.id), 'status', 'entry')
if is_foreign(job) or is_terminal(known[1]) or belongs_elsewhere(known[2], token) then return 1 end
if not known[1] then create_job(job, entry[4]) end
redis.call('HSET', job_key(job.id), 'attempts', attempts)
finish_job(job.id, token, 13)
return 1
