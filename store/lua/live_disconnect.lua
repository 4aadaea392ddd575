-- Says of sessions that a lost node had, that their connections there are gone.
-- KEYS: session hashes, all in one slot, as live_put_records.lua writes them.
-- ARGV: the resume window in ms; the life of the node.
-- Returns nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, ARGV[2])[1]
  local told, rest = string.match(record or '', '^%d+ {"state":"(%l+)"(.*)$')
  -- Closed is the end, and what has been said to be disconnecting keeps its time.
  if told and told ~= 'closed' and told ~= 'disconnecting' then
    local ending = string.format('%.0f', now + tonumber(ARGV[1]))
    redis.call('HSET', key, ARGV[2], ending .. ' {"state":"disconnecting"' .. rest)
    if redis.call('PTTL', key) < tonumber(ARGV[1]) then
      redis.call('PEXPIRE', key, ARGV[1])
    end
  end
end
return false
