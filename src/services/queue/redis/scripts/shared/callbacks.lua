-- Callbacks wait in one lane (list of ids) per job. Only the head of a lane has a finite score in callbacks:due.
local callbacks_due, callbacks_dead = prefix .. 'callbacks:due', prefix .. 'callbacks:dead'

local function callback_key(id) return prefix .. 'callback:' .. id end
local function lane_key(job_id) return prefix .. 'lane:' .. job_id end
local function is_terminal_event(event) return event == 'completed' or event == 'failed' end

local function remove_callback(id, keep)
  -- One that cannot be read has its job in its id, at least: the others of its lane are not to wait for it.
  local job_id = read_fields(callback_key(id), 'job')[1] or string.match(id, '^(.+):%l+$') or string.match(id, '^(.+):progress:[%d.]+$')
  redis.call('ZREM', callbacks_due, id)
  if not keep then redis.call('DEL', callback_key(id)) end
  if not job_id then return end
  redis.call('LREM', lane_key(job_id), 1, id)
  local head = redis.call('LINDEX', lane_key(job_id), 0)
  if head and redis.call('ZSCORE', callbacks_due, head) == 'inf' then
    redis.call('ZADD', callbacks_due, number_or(read_fields(callback_key(head), 'next')[1], now), head)
  end
end

local function is_on_its_way(id)
  return number_or(read_fields(callback_key(id), 'claimed')[1], 0) > now
end

-- Callbacks that were given up, bounded in number (`most_dead_callbacks`, put in front by scripts.ts): the oldest go first.
local function forget_dead_callbacks(ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', callbacks_dead, id)
    redis.call('DEL', callback_key(id))
  end
end

local function trim_dead_callbacks(at_once)
  local extra = math.min(redis.call('ZCARD', callbacks_dead) - most_dead_callbacks, at_once)
  if extra > 0 then forget_dead_callbacks(redis.call('ZRANGE', callbacks_dead, 0, extra - 1)) end
end

-- Three arguments of a callback from position `at`; an empty id means none.
local function callback_at(at)
  return { id = ARGV[at], event = ARGV[at + 1], entry = ARGV[at + 2] }
end

-- Due at once, by the server's clock.
local function add_callback(job_id, callback)
  if callback.id == '' then return end
  local id, key = callback.id, callback_key(callback.id)
  local score = redis.call('ZSCORE', callbacks_due, id)
  if not score then
    if redis.call('DEL', key) == 1 then redis.call('ZREM', callbacks_dead, id) end
    local place = redis.call('RPUSH', lane_key(job_id), id)
    redis.call('ZADD', callbacks_due, place == 1 and now or '+inf', id)
  elseif is_on_its_way(id) then
    redis.call('HSET', key, 'replaced', '1')
  elseif score ~= 'inf' then
    redis.call('ZADD', callbacks_due, now, id)
  end
  redis.call('HSET', key, 'entry', callback.entry, 'job', job_id, 'event', callback.event, 'next', now, 'attempts', 0, 'error', '')
end

-- A terminal callback drops what is still to be said before it, except what a relay is sending right now.
local function add_terminal_callback(job_id, callback)
  for _, id in ipairs(redis.call('LRANGE', lane_key(job_id), 0, -1)) do
    if id ~= callback.id then
      if is_on_its_way(id) then redis.call('HSET', callback_key(id), 'superseded', '1') else remove_callback(id) end
    end
  end
  add_callback(job_id, callback)
end
