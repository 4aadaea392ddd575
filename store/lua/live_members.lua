-- Puts members into indexes until their lease ends, and takes out those whose lease has ended.
-- KEYS: sorted sets, all in one slot; a score is the end of a lease in ms, by this server's clock.
-- ARGV: the lease in ms; then for each key its members, a space between.
-- Returns nothing.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Numbers that go to Redis are made text once.
local over, ending = string.format('%.0f', now), string.format('%.0f', now + lease)
for place, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', over)
  local scores = {}
  for member in string.gmatch(ARGV[place + 1], '%S+') do
    scores[#scores + 1] = ending
    scores[#scores + 1] = member
  end
  redis.call('ZADD', key, unpack(scores))
  if redis.call('PTTL', key) < lease then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return false
