-- Ends a round at a provider and keeps what is to be remembered until the next one.
-- KEYS: the provider's reaping. ARGV: holder, memory ('' to leave it), how long the key is kept in ms. Returns 1, or 0 when somebody else reaps meanwhile.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[1], 'holder', 'untilMs')
redis.call('HSET', KEYS[1], 'atMs', time[1] * 1000 + math.floor(time[2] / 1000))
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'memory', ARGV[2]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
