-- Puts members into indexes until their lease ends, and takes out those whose lease has ended.
-- KEYS: sorted sets, all in one slot; a score is the end of a lease in ms, by this server's clock.
-- ARGV: the lease in ms; then for each key the number of its members, and the members.
-- Returns nothing.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = 2
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local count = tonumber(ARGV[at])
  for member = at + 1, at + count do
    redis.call('ZADD', key, now + lease, ARGV[member])
  end
  at = at + count + 1
  if redis.call('PTTL', key) < lease then
    redis.call('PEXPIRE', key, lease)
  end
end
return false
