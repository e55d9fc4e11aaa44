-- with: drains callbacks
-- Records a callback outside a job's terminal write. ARGV: job id, then the callback.
local id = ARGV[3]
local callback = callback_at(4)
if not is_terminal_event(callback.event) and is_terminal(read_fields(job_key(id), 'status')[1]) then return 0 end
add_callback(id, callback)
return 1
