-- include ledger
-- The places of a provider that jobs hold, and what they left behind. ARGV: inbox prefix, inbox ttl, provider. Returns the ledger's time, then for each: lease id, whose it is, '1' when it is a job's that BullMQ does not hold any more, and for how many ms what a job left behind has it.
local bound = { string.format('%.0f', now) }
local leases = redis.call('ZRANGEBYSCORE', ledger.leasesKey(ARGV[3]), '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  local id, lease = leases[i], ledger.getLease(leases[i])
  if lease and lease.jobId and (leases[i + 1] == 'inf' or string.sub(lease.jobId, 1, 1) == ':') then
    bound[#bound + 1] = id
    bound[#bound + 1] = lease.jobId
    bound[#bound + 1] = (lease.job and redis.call('EXISTS', lease.job) == 0) and '1' or ''
    bound[#bound + 1] = string.format('%.0f', now - (lease.since or now))
  end
end
return bound
