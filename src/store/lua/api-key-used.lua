-- Notes when an API key was used last; one that is forgotten meanwhile does not come back.
-- KEYS: the key's hash.
if redis.call('HEXISTS', KEYS[1], 'digest') == 0 then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'usedAtMs', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
