-- Says of a lost node that it has nothing left.
-- KEYS: lives that are lost, as live_nodes.lua has them.
-- ARGV: the life.
-- Returns 1 when nobody had said so, else 0.
local since = redis.call('ZSCORE', KEYS[1], ARGV[1])
if since and tonumber(since) > 0 then
  redis.call('ZADD', KEYS[1], -tonumber(since), ARGV[1])
  return 1
end
return 0
