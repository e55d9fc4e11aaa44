-- How many are before queued jobs that have a record; -1 for one that does not wait. ARGV: job ids. Returns a number for each.
local answer = {}
local delayed_count, length = redis.call('ZCARD', delayed), redis.call('LLEN', list)
local function position(id)
  local job = read_fields(job_key(id), 'status', 'entry', 'payload')
  if job[1] ~= 'queued' then return -1 end
  if job[2] and job[2] ~= '' then
    local rank = redis.call('ZRANK', delayed, job[2])
    if rank then return rank end
  end
  if (job[3] or '') == '' then return -1 end
  -- Whoever asks for many asks for the newest: they stand at the left end.
  local index = #ARGV > 3 and redis.call('LPOS', list, job[3], 'MAXLEN', 1000) or redis.call('LPOS', list, job[3], 'RANK', -1)
  return index and delayed_count + length - 1 - index or -1
end
for at = 3, #ARGV do answer[#answer + 1] = position(ARGV[at]) end
return answer
