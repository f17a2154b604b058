-- A consumer that stops gives up its turn to hold the index against BullMQ (ready-reconcile.lua), if it is still its own, and says so to the others.
-- KEYS: R:q:<queue>:sweep. ARGV: holder, channel, queue. Returns 1 when it was its own.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'until')
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
