-- with: drains
-- Says in the record of a job that is over that its files are gone. ARGV: job id, metadata. Returns 1, or 0 for any other job.
if not is_terminal(read_fields(job_key(ARGV[3]), 'status')[1]) then return 0 end
redis.call('HSET', job_key(ARGV[3]), 'assets', '', 'metadata', ARGV[4])
tell(ARGV[3])
return 1
