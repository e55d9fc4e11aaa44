-- Terminal state, callback and acknowledgement. ARGV: token, job id, then the terminal state.
-- Returns 1; 0 when the lease was lost. The same call again, sent after a broken connection, gives the same answer.
local token, id = ARGV[3], ARGV[4]
if not is_held(token) then
  return id ~= '' and redis.call('HGET', job_key(id), 'finishedBy') == token and 1 or 0
end
id = redis.call('HGET', entry_key(token), 'id')
drop_entry(token)
if id ~= '' and redis.call('EXISTS', job_key(id)) == 1 then
  finish_job(id, token, 5)
else
  local callback = callback_at(10)
  if callback.id ~= '' then add_callback(callback.id, id, callback.event, callback.entry, callback.attempts, callback.next) end
end
return 1
