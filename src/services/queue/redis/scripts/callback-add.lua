-- with: callbacks
-- Records a callback outside a job's terminal write. ARGV: job id, then the callback.
local id = ARGV[3]
local callback = callback_at(4)
if not is_terminal_event(callback.event) and is_terminal(redis.call('HGET', job_key(id), 'status')) then return 0 end
add_callback(id, callback)
return 1
