-- include ledger
-- The places of a provider that jobs hold, and what they left behind. ARGV: inbox prefix, inbox ttl, provider. Returns the ledger's time, then for each: lease id, whose it is, '1' when it is a job's that BullMQ does not hold any more, and for how many ms what a job left behind has it.
-- A place of which nothing is known any more, where Redis has lost a part of what it held (one that evicts keys), is nobody's, and nobody else would free it.
local name = ARGV[3]
local bound, lost = { string.format('%.0f', now) }, {}
local leases = redis.call('ZRANGEBYSCORE', ledger.leasesKey(name), '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  local id, lease = leases[i], ledger.getLease(leases[i])
  if not lease then
    if #lost < 1000 then lost[#lost + 1] = id end
  elseif lease.jobId and (leases[i + 1] == 'inf' or string.sub(lease.jobId, 1, 1) == ':') then
    bound[#bound + 1] = id
    bound[#bound + 1] = lease.jobId
    bound[#bound + 1] = (lease.job and redis.call('EXISTS', lease.job) == 0) and '1' or ''
    bound[#bound + 1] = string.format('%.0f', now - (lease.since or now))
  end
end
if lost[1] and not ledger.looks then
  redis.call('ZREM', ledger.leasesKey(name), unpack(lost))
  -- How much of the pool they had went with them.
  local milliCpu, memoryMiB = 0, 0
  for _, id in ipairs(redis.call('ZRANGE', ledger.leasesKey(name), 0, -1)) do
    local lease = ledger.getLease(id)
    if lease then milliCpu, memoryMiB = milliCpu + lease.milliCpu, memoryMiB + lease.memoryMiB end
  end
  redis.call('HSET', ledger.providerKey(name), 'milliCpu', milliCpu, 'memoryMiB', memoryMiB)
  ledger.forget(name)
  ledger.offer(name)
end
return bound
