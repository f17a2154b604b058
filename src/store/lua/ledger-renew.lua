-- include ledger
-- Keeps a holder's reservations and waiters alive: one command per consumer and interval.
-- ARGV: inbox prefix, inbox ttl, holder, ttl, then lease ids. Returns the ids that are not known any more.
local holder, ttl = ARGV[3], tonumber(ARGV[4])
local unknown = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local lease, waiter = ledger.getLease(id), ledger.getWaiter(id)
  if lease and lease.holder == holder then
    -- An expired one that nobody has needed yet is still its holder's.
    if not lease.jobId then redis.call('ZADD', ledger.leasesKey(lease.provider), now + ttl, id) end
  elseif waiter and waiter.holder == holder then
    waiter.expiresAt = now + ttl
    redis.call('HSET', L .. ':waiter', id, cjson.encode(waiter))
  else
    unknown[#unknown + 1] = id
  end
end
redis.call('PEXPIRE', inboxPrefix .. holder, inboxTtl)
return unknown
