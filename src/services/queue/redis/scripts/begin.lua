-- with: drains callbacks jobs
-- The first write of a runner. ARGV: token, the job (6), worker, then the callback. Returns the outcome alone.
local job = job_at(4)
local outcome = claim_job(ARGV[3], job, ARGV[10], true)[1]
if outcome == 'begun' then add_callback(job.id, callback_at(11)) end
return outcome
