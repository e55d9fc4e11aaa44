-- The first write of a runner. A job that is finished, or stands on its queue through another entry, is not begun: its reservation is dropped.
-- ARGV: token, job id, type, user, queue, worker, then the callback.
local token, id, kind, user, queue, worker = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if not is_held(token) then return 'lost' end

local job = redis.call('HMGET', job_key(id), 'status', 'entry', 'started')
if job[1] and (is_terminal(job[1]) or belongs_elsewhere(job[2], token)) then
  drop_entry(token)
  return 'duplicate'
end

local entry = redis.call('HMGET', entry_key(token), 'queued', 'attempts', 'cancel', 'id')
if not job[1] then create_job(id, kind, user, queue, entry[1]) end
if entry[4] ~= id then redis.call('HSET', entry_key(token), 'id', id) end
redis.call('HSET', job_key(id), 'type', kind, 'user', user, 'status', 'processing', 'attempts', entry[2], 'worker', worker, 'started', job[3] or now, 'entry', token)
redis.call('HDEL', job_key(id), 'payload')
if entry[3] == '1' then redis.call('HSET', job_key(id), 'cancel', '1') end

local callback = callback_at(9)
if callback.id ~= '' then add_callback(callback.id, id, callback.event, callback.entry, callback.attempts, callback.next) end
return 'begun'
