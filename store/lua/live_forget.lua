-- Removes the entries of connections.
-- KEYS: connection hashes, all in one slot.
-- ARGV: nothing.
-- Returns, for each that was there, four items: its place in KEYS, and the node, user and sessions it had.
local known = {}
for place, key in ipairs(KEYS) do
  local old = redis.call('HMGET', key, 'node', 'user', 'sessions')
  if old[1] then
    known[#known + 1] = place
    known[#known + 1] = old[1]
    known[#known + 1] = old[2]
    known[#known + 1] = old[3]
    redis.call('DEL', key)
  end
end
return known
