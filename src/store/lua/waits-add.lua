-- Jobs that may wait for their first sandbox for so long only.
-- KEYS: W, sorted set: job id -> ms at which its time to wait is over. ARGV: job id and ms from now, for each.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Whoever looks at them last drops them; where nobody does any more they go a week later.
local keptMs = 604800000
for i = 1, #ARGV, 2 do
  local ms = tonumber(ARGV[i + 1])
  redis.call('ZADD', KEYS[1], now + ms, ARGV[i])
  if redis.call('PTTL', KEYS[1]) < ms + keptMs then redis.call('PEXPIRE', KEYS[1], ms + keptMs) end
end
return #ARGV / 2
