-- Adds an API key, unless there are too many.
-- KEYS: the ids of all keys, the key's hash. ARGV: id, how many there may be, after how many ms it is forgotten or '', then its fields and values.
-- Returns 'added', or 'full'. A hash: digest, name, scope, tenants, repositories, secrets, createdAtMs, expiresAtMs; later usedAtMs, revokedAtMs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
if ARGV[3] == '' then
  redis.call('ZADD', KEYS[1], '+inf', ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 'added'
