-- Writes the entries of connections and renews their leases.
-- KEYS: connection hashes, all in one slot.
-- ARGV: the lease in ms; then for each key node, user, sessions (ids, a space between), ip, port, since.
-- Returns, for each that was there with another node, user or other sessions, four items: its place in KEYS, and the
-- node, user and sessions it had.
local left = {}
for place, key in ipairs(KEYS) do
  local at = 6 * place - 4
  local old = redis.call('HMGET', key, 'node', 'user', 'sessions', 'ip', 'port', 'since')
  local is_same = true
  for field = 1, 6 do
    is_same = is_same and old[field] == ARGV[at + field - 1]
  end
  if not is_same then
    redis.call('HSET', key, 'node', ARGV[at], 'user', ARGV[at + 1], 'sessions', ARGV[at + 2],
      'ip', ARGV[at + 3], 'port', ARGV[at + 4], 'since', ARGV[at + 5])
    if old[1] and (old[1] ~= ARGV[at] or old[2] ~= ARGV[at + 1] or old[3] ~= ARGV[at + 2]) then
      left[#left + 1] = place
      left[#left + 1] = old[1]
      left[#left + 1] = old[2]
      left[#left + 1] = old[3]
    end
  end
  redis.call('PEXPIRE', key, ARGV[1])
end
return left
