-- Has values that may be taken once live for longer. What has been taken stays taken, for longer as well.
-- KEYS: strings, as live_put_once.lua writes them, all in one slot.
-- ARGV: their time to live in ms; then for each key how its value ends.
-- Returns the places in KEYS of those that have been taken and, below zero, of those that are not there or end otherwise.
local found = {}
for place, key in ipairs(KEYS) do
  local ending = ARGV[place + 1]
  local old = redis.call('GETRANGE', key, -#ending, -1)
  if old == ending or old == '-' then
    redis.call('PEXPIRE', key, ARGV[1])
    if old == '-' then
      found[#found + 1] = place
    end
  else
    found[#found + 1] = -place
  end
end
return found
