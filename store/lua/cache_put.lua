-- Stores values, each unless a newer or equal one is there or those of its version were dropped.
--
-- KEYS     for each entry two in one slot: the value, its floor
-- ARGV     [1] how long the values live, in ms; then for each entry: version, value
-- returns  for each entry 1 where it was stored, else 0
--
-- A value is its own floor: it begins with its version and a colon. The other key is there only while the
-- oldest version that may be stored is to be known for longer than the value lives, or without one.
local ttl = tonumber(ARGV[1])
local stored = {}
for entry = 1, #KEYS / 2 do
    local value_key, floor_key = KEYS[2 * entry - 1], KEYS[2 * entry]
    local version = tonumber(ARGV[2 * entry])
    local present = tonumber(string.match(redis.call('GETRANGE', value_key, 0, 20), '^(%d+):'))
    local floor = tonumber(redis.call('GET', floor_key))
    if (present and version <= present) or (floor and version < floor) then
        stored[entry] = 0
    else
        local known = math.max(redis.call('PTTL', value_key), redis.call('PTTL', floor_key))
        redis.call('SET', value_key, ARGV[2 * entry] .. ':' .. ARGV[2 * entry + 1], 'PX', ttl)
        if known > ttl then
            redis.call('SET', floor_key, ARGV[2 * entry], 'PX', known)
        elseif floor then
            redis.call('DEL', floor_key)
        end
        stored[entry] = 1
    end
end
return stored
