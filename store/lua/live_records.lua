-- Reads what nodes know of a session.
-- KEYS: a session hash, as live_put_records.lua writes it.
-- ARGV: nothing.
-- Returns for each node whose lease runs two items: the node, and its record.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
local fields = redis.call('HGETALL', KEYS[1])
for field = 1, #fields, 2 do
  local ending, record = string.match(fields[field + 1], '^(%d+) (.*)$')
  if tonumber(ending) > now then
    found[#found + 1] = fields[field]
    found[#found + 1] = record
  end
end
return found
