-- Stores values to be taken once. What has been taken stays taken: it is marked with `-`, values begin with `+`.
-- KEYS: strings, all in one slot.
-- ARGV: their time to live in ms; then a value for each key.
-- Returns the places in KEYS of those that have been taken.
local taken = {}
for place, key in ipairs(KEYS) do
  if redis.call('GETRANGE', key, 0, 0) == '-' then
    redis.call('PEXPIRE', key, ARGV[1])
    taken[#taken + 1] = place
  else
    redis.call('SET', key, '+' .. ARGV[place + 1], 'PX', ARGV[1])
  end
end
return taken
