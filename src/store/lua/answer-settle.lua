-- Keeps the answer to the request that an idempotency key stands for; without one the key is free again, for whoever tries anew.
-- KEYS: the request's hash. ARGV: the token it was begun with, the answer or '', for how many ms it is remembered.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('HDEL', KEYS[1], 'token', 'untilMs')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
