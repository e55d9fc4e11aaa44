-- with: lines
-- What can be said of a job that has no record. ARGV: job id, how far to search.
-- Returns {where, type, user, queued at, how many before it}, or nothing. A raw push carries no time: it counts from now.
local where, what, position = locate(ARGV[3], tonumber(ARGV[4]))
if not where then return {} end
local _, kind, user = peek(where == 'list' and what or redis.call('GET', payload_key(what)))
local queued = where == 'list' and now or tonumber(redis.call('HGET', entry_key(what), 'queued'))
return { where, kind, user, queued, position }
