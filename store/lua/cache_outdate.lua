-- Removes values whose versions are the time of their reading and refuses those read until some time from now.
--
-- KEYS     for each entry two in one slot: the value, its floor
-- ARGV     [1] how long they are refused, in ms; then for each entry: how far from now the refused ones reach
-- returns  nothing
--
-- What is there goes whatever it says: it was read before, even where the clock has been set back since.
local ttl = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for entry = 1, #KEYS / 2 do
    local value_key, floor_key = KEYS[2 * entry - 1], KEYS[2 * entry]
    local present = tonumber(string.match(redis.call('GETRANGE', value_key, 0, 20), '^(%d+):'))
    local floor = tonumber(redis.call('GET', floor_key))
    local version = math.max(now + tonumber(ARGV[entry + 1]) + 1, (present or 0) + 1, floor or 0)
    redis.call('DEL', value_key)
    redis.call('SET', floor_key, string.format('%.0f', version), 'PX', ttl)
end
