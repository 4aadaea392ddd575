-- Puts connections and their sessions under their users until the lease ends.
-- KEYS: for each connection its user's connections and its user's sessions, both sorted by the end of a lease in ms by
-- this server's clock; all in one slot.
-- ARGV: the lease in ms; then for each connection its id and its sessions, a space between.
-- Returns, for each session in which its user was not before, two items: the connection's place, and the session.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Numbers that go to Redis are made text once.
local over, ending = string.format('%.0f', now), string.format('%.0f', now + lease)
local arrivals = {}

local function lengthen(key)
  if redis.call('PTTL', key) < lease then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end

for place = 1, #KEYS / 2 do
  local connections, sessions = KEYS[2 * place - 1], KEYS[2 * place]
  local id
  for word in string.gmatch(ARGV[place + 1], '%S+') do
    if not id then
      id = word
      -- Those whose lease has ended are taken out when one more is admitted.
      redis.call('ZADD', connections, ending, id)
      lengthen(connections)
      redis.call('ZREMRANGEBYSCORE', sessions, '-inf', over)
    -- Another connection of theirs may have a longer lease in the same session.
    elseif redis.call('ZADD', sessions, 'GT', ending, word) == 1 then
      arrivals[#arrivals + 1] = place
      arrivals[#arrivals + 1] = word
    end
  end
  lengthen(sessions)
end
return arrivals
