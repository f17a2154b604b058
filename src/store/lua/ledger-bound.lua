-- include ledger
-- The places of a provider that do not expire by themselves. ARGV: inbox prefix, inbox ttl, provider. Returns for each: lease id, whose it is, and
-- '1' when it is a job's that BullMQ does not hold any more.
local bound = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leasesKey(ARGV[3]), '+inf', '+inf')) do
  local lease = getLease(id)
  if lease and lease.jobId then
    bound[#bound + 1] = id
    bound[#bound + 1] = lease.jobId
    bound[#bound + 1] = (lease.job and redis.call('EXISTS', lease.job) == 0) and '1' or ''
  end
end
return bound
