-- Entries whose job nobody has begun yet. Returns {how many are delayed, {payload, token, queued at, how many before it
-- or -1 when it is leased}...}.
local answer = { redis.call('ZCARD', delayed) }
local function look(tokens, is_leased)
  for index, token in ipairs(tokens) do
    local entry = read_fields(entry_key(token), 'id', 'queued')
    local payload = redis.pcall('GET', payload_key(token))
    if entry[1] and type(payload) == 'string' and (entry[1] == '' or redis.call('EXISTS', job_key(entry[1])) == 0) then
      answer[#answer + 1] = { payload, token, number_or(entry[2], now), is_leased and -1 or index - 1 }
    end
  end
end
look(redis.call('ZRANGE', leases, 0, -1), true)
look(redis.call('ZRANGE', delayed, 0, 999), false)
return answer
