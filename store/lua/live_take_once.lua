-- Takes a value that may be taken once, and leaves a mark for as long as it would have lived.
-- KEYS: a string, as live_put_once.lua writes it.
-- ARGV: nothing.
-- Returns the value; nil when there is none or it has been taken.
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, 1) == '-' then
  return false
end
redis.call('SET', KEYS[1], '-', 'KEEPTTL')
return string.sub(value, 2)
