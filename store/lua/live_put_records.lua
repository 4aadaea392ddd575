-- Writes what one node knows of sessions, beside what other nodes know of them.
-- KEYS: session hashes, all in one slot; a field is a node, its value the end of its lease in ms by this server's clock,
-- a space, and its record.
-- ARGV: the lease in ms; then for each key the node and its record.
-- Returns nothing.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ending = string.format('%.0f ', now + lease)
for place, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[2 * place], ending .. ARGV[2 * place + 1])
  if redis.call('HLEN', key) > 1 then
    local fields = redis.call('HGETALL', key)
    for field = 1, #fields, 2 do
      if tonumber(string.match(fields[field + 1], '^%d+')) <= now then
        redis.call('HDEL', key, fields[field])
      end
    end
  end
  if redis.call('PTTL', key) < lease then
    redis.call('PEXPIRE', key, lease)
  end
end
return false
