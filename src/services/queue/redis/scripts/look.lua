-- with: letters lines
-- Payloads on the list from its right end on. ARGV: how many to pass over, how many at most, most bytes of one.
-- Returns {how many to pass over next time, or -1 at the end, payload...}; what is too large leaves the list.
local skip, most, largest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, bytes = { 0 }, 0
while #answer <= most and bytes < 4194304 do
  local chunk = redis.call('LRANGE', list, -skip - 20, -skip - 1)
  for index = #chunk, 1, -1 do
    local payload = chunk[index]
    if #payload > largest then
      redis.call('LREM', list, -1, payload)
      keep_beginning(payload)
    else
      answer[#answer + 1] = payload
      bytes = bytes + #payload
      skip = skip + 1
    end
  end
  if #chunk < 20 then
    answer[1] = -1
    return answer
  end
end
answer[1] = skip
return answer
