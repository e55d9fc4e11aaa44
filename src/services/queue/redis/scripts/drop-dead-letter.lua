-- with: drains letters
-- ARGV: letter id. Returns 1, or 0 when there is none.
if redis.call('EXISTS', letter_key(ARGV[3])) == 0 then return 0 end
drop_letter(ARGV[3])
return 1
