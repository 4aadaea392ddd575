-- Lists the members of an index whose lease runs.
-- KEYS: a sorted set; a score is the end of a lease in ms, by this server's clock.
-- ARGV: nothing.
-- Returns the members.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
