-- with: drains callbacks
-- Puts dead callbacks back in line, one or ('' for the id) all. Nothing follows a terminal callback. ARGV: callback id. Returns how many.
local ids = ARGV[3] ~= '' and { ARGV[3] } or redis.call('ZRANGE', callbacks_dead, 0, -1)
local retried = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', callbacks_dead, id) == 1 then
    local entry = read_fields(callback_key(id), 'job', 'event', 'entry')
    if entry[1] and (is_terminal_event(entry[2]) or not is_terminal(read_fields(job_key(entry[1]), 'status')[1])) then
      add_callback(entry[1], { id = id, event = entry[2], entry = entry[3] })
      retried = retried + 1
    else
      redis.call('DEL', callback_key(id))
    end
  end
end
return retried
