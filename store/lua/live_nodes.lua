-- Renews the lease of one life of a node, and tells of those that are lost.
-- KEYS: lives by the end of their lease; lives that are lost by the moment from which others see to them, below zero
-- when they have nothing left. In ms by this server's clock, both in one slot.
-- ARGV: the lease in ms; how long lost ones are remembered; the life; how many others may be found lost now; how many
-- are told of. Nobody is found lost by a call that comes after half the lease without one: it has waited here, and so
-- have those of others.
-- Returns 1 when it is lost itself, and then nothing was renewed, else 0; how many were found by this call; these; and
-- all that have left something.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keep = tonumber(ARGV[2])
local is_lost = redis.call('ZSCORE', KEYS[2], ARGV[3])
local mine = redis.call('ZSCORE', KEYS[1], ARGV[3])
if not is_lost then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[3])
end
local answer = {is_lost and 1 or 0, 0}
if tonumber(ARGV[4]) > 0 and mine and tonumber(mine) >= now + tonumber(ARGV[1]) / 2 then
  local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])
  answer[2] = #found
  for _, life in ipairs(found) do
    redis.call('ZREM', KEYS[1], life)
    redis.call('ZADD', KEYS[2], now, life)
    answer[#answer + 1] = life
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], keep - now, now - keep)
for _, life in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], 1, now, 'LIMIT', 0, ARGV[5])) do
  answer[#answer + 1] = life
end
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('PEXPIRE', KEYS[2], keep)
return answer
