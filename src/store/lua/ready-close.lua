-- include ready-leave
-- A job leaves the consumers' hands (leaveHands).
-- KEYS[4]: the run, when a fence guards it. ARGV: inbox prefix, inbox ttl, job id, fence, 1 when it is to be gone on with, 1 when its run has ended. Returns 1, or 'lost' when
-- the fence is not the run's.
if KEYS[4] and redis.call('HGET', KEYS[4], 'fence') ~= ARGV[4] then return 'lost' end
local key
if ARGV[5] == '1' then
  ready.keepBegun(ownQueue, ARGV[3])
  -- What has priority 0 comes from BullMQ's delayed jobs where it gives the next one from, past all tenants and caps; with 1 it is behind nothing else of its tenant's.
  if call('HGET', bull(ownQueue, ARGV[3]), 'priority') == '0' then call('HSET', bull(ownQueue, ARGV[3]), 'priority', 1) end
  key = string.match(call('HGET', R .. ':keyed', ownQueue .. ':' .. ARGV[3]) or '', '^(%x+) %d+$')
end
-- What has begun is found by its run.
leaveHands(ARGV[3], nil, ARGV[5] == '1' or ARGV[6] == '1')
if key then keyed.rest(ownQueue, ARGV[3], key) end
return 1
