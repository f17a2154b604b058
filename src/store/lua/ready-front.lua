-- include ready
-- Puts a job that a consumer gave back before all others: whoever looks next takes it, and needs no place for it.
-- KEYS[4], KEYS[5]: BullMQ's prioritized set and wait list. ARGV: inbox prefix, inbox ttl, job id. Returns whether it was there, and wakes a consumer.
unlist(ARGV[3])
if redis.call('ZREM', KEYS[4], ARGV[3]) == 0 then return 0 end
redis.call('RPUSH', KEYS[5], ARGV[3])
redis.call('ZREMRANGEBYSCORE', I, '-inf', now)
local woken = redis.call('ZPOPMAX', I)
if woken[1] then tell(woken[1], { kind = 'work' }) end
return 1
