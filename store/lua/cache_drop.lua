-- Removes values that are older than a version and, for a while, lets no such be stored.
--
-- KEYS     for each entry two in one slot: the value, its floor
-- ARGV     [1] how long older ones are refused, in ms; then for each entry: version
-- returns  nothing
local ttl = tonumber(ARGV[1])
for entry = 1, #KEYS / 2 do
    local value_key, floor_key = KEYS[2 * entry - 1], KEYS[2 * entry]
    local version = tonumber(ARGV[entry + 1])
    local present = tonumber(string.match(redis.call('GETRANGE', value_key, 0, 20), '^(%d+):'))
    local known = present or tonumber(redis.call('GET', floor_key))
    if known and known >= version then
        -- What is there is as new. It is remembered for as long as this was to be, its value lives no longer.
        local longest = math.max(ttl, redis.call('PTTL', floor_key))
        if longest > redis.call('PTTL', value_key) then
            redis.call('SET', floor_key, string.format('%.0f', known), 'PX', longest)
        end
    else
        redis.call('DEL', value_key)
        redis.call('SET', floor_key, ARGV[entry + 1], 'PX', ttl)
    end
end
