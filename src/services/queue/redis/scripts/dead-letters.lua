-- What is shown of dead letters, newest first. ARGV: queue ('' for all), how many, most bytes of a payload.
-- Returns {letter id, payload's beginning, its size, reason, queue, job, attempts, at}...
local wanted, limit, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, start = {}, 0
while #answer < limit do
  local ids = redis.call('ZREVRANGE', prefix .. 'deadletters', start, start + 99)
  for _, id in ipairs(ids) do
    local key = prefix .. 'deadletter:' .. id
    local queue = redis.call('HGET', key, 'queue')
    if queue and (wanted == '' or queue == wanted) and #answer < limit then
      local letter = redis.call('HMGET', key, 'payload', 'bytes', 'reason', 'job', 'attempts', 'at')
      local payload = letter[1] or ''
      answer[#answer + 1] = { id, string.sub(payload, 1, most), tonumber(letter[2] or #payload), letter[3] or '', queue, letter[4] or '',
        tonumber(letter[5] or 0), tonumber(letter[6] or 0) }
    end
  end
  if #ids < 100 then break end
  start = start + 100
end
return answer
