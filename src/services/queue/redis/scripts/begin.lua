-- with: jobs callbacks
-- The first write of a runner. A job that is finished, or stands on its queue through another entry, is not begun: its reservation is dropped.
-- ARGV: token, job id, type, user, worker, then the callback.
local token, id, kind, user, worker = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'queued', 'attempts', 'cancel', 'id')
if (entry[1] or '') == '' then return 'lost' end

local key = job_key(id)
local job = redis.call('HMGET', key, 'status', 'entry', 'payload')
if job[1] and (is_terminal(job[1]) or belongs_elsewhere(job[2], token)) then
  drop_entry(token)
  return 'duplicate'
end

if entry[5] ~= id then redis.call('HSET', entry_key(token), 'id', id) end
if job[1] then
  redis.call('HSET', key, 'status', 'processing', 'type', kind, 'user', user, 'attempts', entry[3], 'worker', worker, 'entry', token)
  redis.call('HSETNX', key, 'started', now)
  if (job[3] or '') ~= '' then redis.call('HSET', key, 'payload', '') end
else
  -- Its queue is known by its type.
  redis.call('HSET', key, 'status', 'processing', 'type', kind, 'user', user, 'attempts', entry[3], 'worker', worker, 'entry', token, 'created', entry[2], 'started', now)
  redis.call('ZADD', listing, 0, listing_member(id, entry[2]))
end
if entry[4] == '1' then redis.call('HSET', key, 'cancel', '1') end
add_callback(id, callback_at(8))
return 'begun'
