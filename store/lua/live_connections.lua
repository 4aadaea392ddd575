-- Writes the entries of connections and renews their leases.
-- KEYS: connection hashes, all in one slot.
-- ARGV: the lease in ms; then for each key, a newline between, node, user, sessions (ids, a space between), ip, port and
-- since.
-- Returns, for each that was there with another node, user or other sessions, four items: its place in KEYS, and the
-- node, user and sessions it had.
local lease = ARGV[1]
local left = {}
for place, key in ipairs(KEYS) do
  local entry = ARGV[place + 1]
  local old = redis.call('HMGET', key, 'node', 'user', 'sessions', 'ip', 'port', 'since')
  -- What is not there is false, which cannot be joined.
  local is_whole = old[1] and old[2] and old[3] and old[4] and old[5] and old[6]
  if not is_whole or table.concat(old, '\n') ~= entry then
    local new = {}
    for field in string.gmatch(entry .. '\n', '(.-)\n') do
      new[#new + 1] = field
    end
    redis.call('HSET', key, 'node', new[1], 'user', new[2], 'sessions', new[3], 'ip', new[4], 'port', new[5],
      'since', new[6])
    if old[1] and (old[1] ~= new[1] or old[2] ~= new[2] or old[3] ~= new[3]) then
      left[#left + 1] = place
      left[#left + 1] = old[1]
      left[#left + 1] = old[2]
      left[#left + 1] = old[3]
    end
  end
  redis.call('PEXPIRE', key, lease)
end
return left
