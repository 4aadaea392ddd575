-- Takes members of an index that a lost node has left; nobody else takes them until the claim is over.
-- KEYS: a sorted set; a score above zero is the end of a lease, one below zero the end of a claim, in ms by this
-- server's clock.
-- ARGV: the claim in ms; how many at most.
-- Returns the members taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[1], -now, '+inf', 'LIMIT', 0, ARGV[2])
local ending = -(now + tonumber(ARGV[1]))
for _, member in ipairs(members) do
  redis.call('ZADD', KEYS[1], ending, member)
end
return members
