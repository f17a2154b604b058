-- include ledger
-- Makes a reservation the job's own place: it does not expire any more.
-- ARGV: inbox prefix, inbox ttl, lease id, the job's id among all queues, BullMQ's key of the job.
-- Returns 1 when the lease is the job's, 0 when the job holds another one (this one is given back) or it had expired.
local id, jobId = ARGV[3], ARGV[4]
local lease = ledger.getLease(id)
if not lease then return 0 end
local held = redis.call('HGET', L .. ':jobs', jobId)
if held == id then return 1 end
if held and ledger.getLease(held) then
  if not lease.jobId then
    ledger.dropLease(id, lease)
    ledger.offer(lease.provider)
  end
  return 0
end
if lease.jobId then return 0 end
local expiresAt = tonumber(redis.call('ZSCORE', ledger.leasesKey(lease.provider), id))
if expiresAt <= now then
  ledger.dropLease(id, lease)
  ledger.offer(lease.provider)
  return 0
end
lease.jobId = jobId
lease.job = ARGV[5]
redis.call('HSET', L .. ':lease', id, cjson.encode(lease))
redis.call('HSET', L .. ':jobs', jobId, id)
redis.call('ZADD', ledger.leasesKey(lease.provider), '+inf', id)
return 1
