-- with: letters
-- What is shown of dead letters, newest first. ARGV: queue ('' for all), how many, most bytes of a payload (0: nothing of it is
-- read), how many to pass over.
-- Returns {letter id, payload's beginning, its size, reason, queue, job, attempts, at}...
local wanted, limit, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, start = {}, tonumber(ARGV[6])
while #answer < limit do
  local ids = redis.call('ZREVRANGE', letters, start, start + 99)
  for _, id in ipairs(ids) do
    local queue = read_fields(letter_key(id), 'queue')[1]
    if queue and (wanted == '' or queue == wanted) and #answer < limit then
      local letter = read_fields(letter_key(id), most > 0 and 'payload' or 'queue', 'bytes', 'reason', 'job', 'attempts', 'at')
      local payload = letter[1] or ''
      answer[#answer + 1] = { id, string.sub(payload, 1, most), number_or(letter[2], #payload), letter[3] or '', queue, letter[4] or '',
        number_or(letter[5], 0), number_or(letter[6], 0) }
    end
  end
  if #ids < 100 then break end
  start = start + 100
end
return answer
