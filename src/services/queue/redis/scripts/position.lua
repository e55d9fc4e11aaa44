-- How many are before a queued job that has a record; -1 when it does not wait. ARGV: job id.
local job = redis.call('HMGET', job_key(ARGV[3]), 'status', 'entry', 'payload')
if job[1] ~= 'queued' then return -1 end
if job[2] and job[2] ~= '' then
  local rank = redis.call('ZRANK', delayed, job[2])
  if rank then return rank end
end
if (job[3] or '') == '' then return -1 end
local index = redis.call('LPOS', list, job[3], 'RANK', -1)
if not index then return -1 end
return redis.call('ZCARD', delayed) + redis.call('LLEN', list) - 1 - index
