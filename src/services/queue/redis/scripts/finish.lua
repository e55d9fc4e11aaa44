-- with: drains callbacks jobs
-- Terminal state, callback and acknowledgement. ARGV: token, id of the job that was begun, then the terminal state.
-- Returns 1; 0 when the lease was lost. The same call again, sent after a broken connection, gives the same answer.
local token, id = ARGV[3], ARGV[4]
if redis.call('ZREM', leases, token) == 0 then return was_finished_by(id, token) and 1 or 0 end
redis.call('DEL', entry_key(token), payload_key(token))
if id ~= '' then finish_job(id, token, 5) end
return 1
