-- Counts a new connection among its user's unless there are as many others as allowed.
-- KEYS: the user's connections, sorted by the end of a lease in ms by this server's clock.
-- ARGV: the lease in ms; the connection's id; how many others are too many.
-- Returns 1 when it counts, 0 when it was refused.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local others = redis.call('ZCARD', KEYS[1])
if redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  others = others - 1
end
if others >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + lease, ARGV[2])
if redis.call('PTTL', KEYS[1]) < lease then
  redis.call('PEXPIRE', KEYS[1], lease)
end
return 1
