-- with: drains callbacks jobs
-- Says what was read of a reserved payload. ARGV: token, the job (6), worker, 1 to begin it. Returns as claim_job does.
return claim_job(ARGV[3], job_at(4), ARGV[10], ARGV[11] == '1')
