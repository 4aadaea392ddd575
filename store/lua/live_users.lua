-- Puts connections and their sessions under their users until the lease ends.
-- KEYS: for each connection its user's connections and its user's sessions, both sorted by the end of a lease in ms by
-- this server's clock; all in one slot.
-- ARGV: the lease in ms; then for each connection its id, the number of its sessions, and the sessions.
-- Returns, for each session in which its user was not before, two items: the connection's place, and the session.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local arrivals = {}
local at = 2

local function lengthen(key)
  if redis.call('PTTL', key) < lease then
    redis.call('PEXPIRE', key, lease)
  end
end

for place = 1, #KEYS / 2 do
  local connections, sessions = KEYS[2 * place - 1], KEYS[2 * place]
  redis.call('ZREMRANGEBYSCORE', connections, '-inf', now)
  redis.call('ZADD', connections, now + lease, ARGV[at])
  lengthen(connections)
  local count = tonumber(ARGV[at + 1])
  if count > 0 then
    redis.call('ZREMRANGEBYSCORE', sessions, '-inf', now)
    for session = at + 2, at + 1 + count do
      -- Another connection of theirs may have a longer lease in the same session.
      if redis.call('ZADD', sessions, 'GT', now + lease, ARGV[session]) == 1 then
        arrivals[#arrivals + 1] = place
        arrivals[#arrivals + 1] = ARGV[session]
      end
    end
    lengthen(sessions)
  end
  at = at + 2 + count
end
return arrivals
