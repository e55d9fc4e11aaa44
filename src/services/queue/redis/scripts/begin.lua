-- with: jobs callbacks
-- The first write of a runner. A job that is finished, or stands on its queue through another entry, is not begun: its reservation is dropped.
-- ARGV: token, job id, type, user, queue, worker, then the callback.
local token, id, kind, user, queue, worker = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local entry = redis.call('HMGET', entry_key(token), 'worker', 'queued', 'attempts', 'cancel', 'id')
if (entry[1] or '') == '' then return 'lost' end

local job = redis.call('HMGET', job_key(id), 'status', 'entry', 'started', 'cancel', 'created')
if job[1] and (is_terminal(job[1]) or belongs_elsewhere(job[2], token)) then
  drop_entry(token)
  return 'duplicate'
end

if not job[1] then redis.call('ZADD', listing, 0, listing_member(id, entry[2])) end
if entry[5] ~= id then redis.call('HSET', entry_key(token), 'id', id) end
local started = (job[3] or '') ~= '' and job[3] or now
local cancel = (entry[4] == '1' or job[4] == '1') and '1' or ''
redis.call('HSET', job_key(id), 'id', id, 'type', kind, 'user', user, 'queue', queue, 'created', job[5] or entry[2],
  'status', 'processing', 'attempts', entry[3], 'worker', worker, 'started', started, 'entry', token, 'cancel', cancel, 'payload', '')
add_callback(id, callback_at(9))
return 'begun'
