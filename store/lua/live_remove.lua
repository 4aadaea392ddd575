-- Takes members out of indexes.
-- KEYS: sorted sets, all in one slot; one may stand there more than once.
-- ARGV: a member for each key.
-- Returns nothing.
for place, key in ipairs(KEYS) do
  redis.call('ZREM', key, ARGV[place])
end
return false
