-- The schedules whose time came some while ago, and nobody saw to it: what wakes consumers for them was lost. After Redis's clock was set back all are
-- looked at, since it may have been ahead when they were put in order.
-- KEYS: the queue's schedules by when each is due, when that was looked at last. ARGV: for how long (ms), by how much the clock may go back, how many at most.
local due, seen = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('GET', seen) or '0')
-- Without schedules nothing is written.
if last == 0 and redis.call('EXISTS', due) == 0 then return {} end
redis.call('SET', seen, string.format('%.0f', now), 'PX', 30 * 24 * 3600 * 1000)
if now + tonumber(ARGV[2]) < last then
  local ahead = redis.call('ZRANGEBYSCORE', due, string.format('(%.0f', now), '(inf')
  for _, id in ipairs(ahead) do redis.call('ZADD', due, '0', id) end
end
return redis.call('ZRANGEBYSCORE', due, '-inf', string.format('%.0f', now - tonumber(ARGV[1])), 'LIMIT', 0, ARGV[3])
