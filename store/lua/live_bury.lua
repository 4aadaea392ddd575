-- Removes the entries of connections that are a lost node's still.
-- KEYS: connection hashes, all in one slot.
-- ARGV: the life of the node.
-- Returns nothing.
for _, key in ipairs(KEYS) do
  if redis.call('HMGET', key, 'node')[1] == ARGV[1] then
    redis.call('DEL', key)
  end
end
return false
