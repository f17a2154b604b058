-- Enters a consumer among the idle ones. KEYS: idle set. ARGV: holder, for how many ms (by this server's clock).
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
return 1
