-- Enters a consumer among the idle ones. KEYS: idle set. ARGV: holder, for how many ms (by this server's clock).
local time = redis.call('TIME')
-- Consumers that died idle are forgotten here, and with the last of them the set: all are believed for the same time.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
