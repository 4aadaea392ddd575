-- Takes a user out of a session unless a connection of theirs was asserted in it meanwhile.
-- KEYS: the user's sessions, sorted by the end of a lease.
-- ARGV: the session; its score when the caller looked, before it looked at the user's connections.
-- Returns 1 when the user was in it and is no longer, else 0.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
