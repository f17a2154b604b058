-- The jobs whose time to wait has been over for a while, the longest first.
-- KEYS: W (waits-add.lua). ARGV: for how many ms at least, how many at most.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, tonumber(ARGV[2]))
