-- include ledger
-- Gives a place back, or stops waiting for one.
-- KEYS[4]: the run, when a fence guards the release.
-- ARGV: inbox prefix, inbox ttl, lease id, 'all' or 'unbound' (leaves a job's place alone), fence; or a job's id among all queues and 'job': the place that it holds.
-- Returns 'released', 'withdrawn', 'kept' or 'unknown'; 'lost' when the fence is not the run's.
local id = ARGV[3]
if KEYS[4] and redis.call('HGET', KEYS[4], 'fence') ~= ARGV[5] then return 'lost' end
if ARGV[4] == 'job' then
  id = redis.call('HGET', L .. ':jobs', id)
  if not id then return 'unknown' end
end
local waiter = ledger.getWaiter(id)
if waiter then ledger.dropWaiter(id, waiter) end
local lease = ledger.getLease(id)
if not lease then return waiter and 'withdrawn' or 'unknown' end
if lease.jobId and ARGV[4] == 'unbound' then return 'kept' end
ledger.dropLease(id, lease)
ledger.offer(lease.provider)
return 'released'
