-- Takes members out of indexes unless they were asserted since.
-- KEYS: sorted sets by the end of a lease in ms by this server's clock, all in one slot; one may stand there more than
-- once.
-- ARGV: for each key a member, and what is left of its lease in ms at most; who has more was asserted since.
-- Returns nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for place, key in ipairs(KEYS) do
  local score = redis.call('ZSCORE', key, ARGV[2 * place - 1])
  if score and tonumber(score) <= now + tonumber(ARGV[2 * place]) then
    redis.call('ZREM', key, ARGV[2 * place - 1])
  end
end
return false
