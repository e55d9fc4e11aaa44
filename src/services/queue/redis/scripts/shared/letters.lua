-- Dead letters: bounded in number and in the bytes of their payloads (`most_letters`, `most_letter_bytes`, put in front by
-- scripts.ts), the oldest go first; housekeep.lua bounds their age.
local letters, letters_bytes = prefix .. 'deadletters', prefix .. 'deadletters:bytes'
local function letter_key(id) return prefix .. 'deadletter:' .. id end
local function letter_size(id) return number_or(redis.pcall('HSTRLEN', letter_key(id), 'payload'), 0) end

-- Noted for a day and then counted anew, should anybody else have removed letters.
local function note_bytes(sum)
  if redis.call('ZCARD', letters) == 0 then
    redis.call('DEL', letters_bytes)
  elseif redis.call('EXISTS', letters_bytes) == 1 then
    redis.call('SET', letters_bytes, sum, 'KEEPTTL')
  else
    redis.call('SET', letters_bytes, sum, 'EX', 86400)
  end
end

local function count_letters()
  local sum = number_or(redis.call('GET', letters_bytes))
  if sum then return sum end
  sum = 0
  for _, id in ipairs(redis.call('ZRANGE', letters, 0, -1)) do sum = sum + letter_size(id) end
  note_bytes(sum)
  return sum
end

local function drop_letter(id)
  local sum = count_letters() - letter_size(id)
  redis.call('DEL', letter_key(id))
  redis.call('ZREM', letters, id)
  note_bytes(sum)
end

local function trim_letters(at_once)
  for _ = 1, at_once do
    if redis.call('ZCARD', letters) <= most_letters and count_letters() <= most_letter_bytes then return end
    drop_letter(redis.call('ZRANGE', letters, 0, 0)[1])
  end
end

-- The fields beside `queue` and `at`.
local function keep_letter(id, ...)
  local sum = count_letters()
  redis.call('HSET', letter_key(id), 'queue', list, 'at', now, ...)
  redis.call('ZADD', letters, now, id)
  note_bytes(sum + letter_size(id))
  trim_letters(1000)
end
