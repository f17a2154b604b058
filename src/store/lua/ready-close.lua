-- include ready
-- A job leaves the consumers' hands: its place is given back, its tenant's account is settled, it is listed nowhere.
-- KEYS[4]: the run, when a fence guards it. ARGV: inbox prefix, inbox ttl, job id, fence. Returns 1, or 'lost' when the fence is not the run's.
local jobId = ARGV[3]
if KEYS[4] and redis.call('HGET', KEYS[4], 'fence') ~= ARGV[4] then return 'lost' end
unlist(jobId)
settle(jobId)
local leaseId = redis.call('HGET', L .. ':jobs', jobId)
local lease = leaseId and getLease(leaseId)
if lease then
  dropLease(leaseId, lease)
  expire(lease.provider)
  offer(lease.provider)
end
return 1
