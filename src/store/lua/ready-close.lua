-- include ready-leave
-- A job leaves the consumers' hands (leaveHands).
-- KEYS[4]: the run, when a fence guards it. ARGV: inbox prefix, inbox ttl, job id, fence. Returns 1, or 'lost' when the fence is not the run's.
if KEYS[4] and redis.call('HGET', KEYS[4], 'fence') ~= ARGV[4] then return 'lost' end
leaveHands(ARGV[3])
return 1
