-- Wakes idle consumers: each is taken out of the idle set, so that two calls never wake the same one for two jobs.
-- KEYS: idle set. ARGV: how many, inbox prefix, inbox time to live in ms. Returns how many were woken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local woken = redis.call('ZPOPMAX', KEYS[1], ARGV[1])
for i = 1, #woken, 2 do
  local inbox = ARGV[2] .. woken[i]
  redis.call('RPUSH', inbox, '{"kind":"work"}')
  redis.call('PEXPIRE', inbox, ARGV[3])
end
return #woken / 2
