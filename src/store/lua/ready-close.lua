-- include ready-choose
-- A job leaves the consumers' hands: its tenant's account is settled, it is listed nowhere, and its place goes to the next one in the same step.
-- KEYS[4]: the run, when a fence guards it. ARGV: inbox prefix, inbox ttl, job id, fence. Returns 1, or 'lost' when the fence is not the run's.
local jobId = ARGV[3]
if KEYS[4] and redis.call('HGET', KEYS[4], 'fence') ~= ARGV[4] then return 'lost' end
unlist(ownQueue, jobId)
-- The queue's own record of it may be gone.
keyed.gone(ownQueue, jobId)
settle(jobId)
local leaseId = redis.call('HGET', L .. ':jobs', jobId)
local lease = leaseId and getLease(leaseId)
if lease then
  dropLease(leaseId, lease)
  expire(lease.provider)
  handOn(lease.provider)
end
return 1
