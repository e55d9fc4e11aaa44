-- ARGV: job ids. Returns those that have no record.
local answer = {}
for at = 3, #ARGV do
  if redis.call('EXISTS', job_key(ARGV[at])) == 0 then answer[#answer + 1] = ARGV[at] end
end
return answer
