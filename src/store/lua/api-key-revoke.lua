-- Ends an API key; it is shown as revoked for a while, and then forgotten.
-- KEYS: the ids of all keys, the key's hash. ARGV: id, after how many ms it is forgotten.
-- Returns 'revoked', 'already' or 'unknown'.
if redis.call('HEXISTS', KEYS[2], 'digest') == 0 then return 'unknown' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HSETNX', KEYS[2], 'revokedAtMs', string.format('%.0f', now)) == 0 then return 'already' end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 'revoked'
