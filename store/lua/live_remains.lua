-- Reads which connections are a lost node's still.
-- KEYS: connection hashes, all in one slot.
-- ARGV: the life of the node.
-- Returns for each that is, four items: its place in KEYS, its user, its sessions, and what is left of its lease in ms.
local found = {}
for place, key in ipairs(KEYS) do
  local old = redis.call('HMGET', key, 'node', 'user', 'sessions')
  if old[1] == ARGV[1] and old[2] and old[3] then
    found[#found + 1] = place
    found[#found + 1] = old[2]
    found[#found + 1] = old[3]
    found[#found + 1] = redis.call('PTTL', key)
  end
end
return found
