-- Ends the lease of one life of a node, which leaves.
-- KEYS: lives by the end of their lease, and lives that are lost, as live_nodes.lua has them.
-- ARGV: the life; in how many ms others see to what it has left; how long it is remembered.
-- Returns nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return false
