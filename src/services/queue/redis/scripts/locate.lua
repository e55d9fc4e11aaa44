-- What can be said of a job that has no record. ARGV: job id, how far to search.
-- Returns {where, type, user, queued at (-1: unknown), how many before it}, or nothing.
local where, what, position = locate(ARGV[3], tonumber(ARGV[4]))
if not where then return {} end
if where == 'list' then
  local _, kind, user = peek(what)
  return { where, kind, user, now, position }
end
local entry = redis.call('HMGET', entry_key(what), 'type', 'user', 'queued')
return { where, entry[1], entry[2], tonumber(entry[3]), position }
