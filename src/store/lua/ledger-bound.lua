-- include ledger
-- The places of a provider that do not expire by themselves. ARGV: inbox prefix, inbox ttl, provider. Returns the ledger's time, then for each:
-- lease id, whose it is, '1' when it is a job's that BullMQ does not hold any more, and for how many ms what a job left behind has it.
local bound = { string.format('%.0f', now) }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ledger.leasesKey(ARGV[3]), '+inf', '+inf')) do
  local lease = ledger.getLease(id)
  if lease and lease.jobId then
    bound[#bound + 1] = id
    bound[#bound + 1] = lease.jobId
    bound[#bound + 1] = (lease.job and redis.call('EXISTS', lease.job) == 0) and '1' or ''
    bound[#bound + 1] = string.format('%.0f', now - (lease.since or now))
  end
end
return bound
