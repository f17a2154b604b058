-- include ledger
-- Keeps a holder's waiters in line: one command for a hundred of them and interval.
-- ARGV: inbox prefix, inbox ttl, holder, ttl, then lease ids, at most 100. Returns the ids that don't wait any more: they are granted, or not known. A grant is not kept alive here:
-- its holder may not have heard of it.
local holder, ttl = ARGV[3], tonumber(ARGV[4])
local others = {}
for i = 5, #ARGV do
  local waiter = ledger.getWaiter(ARGV[i])
  if waiter and waiter.holder == holder then
    waiter.expiresAt = now + ttl
    redis.call('HSET', L .. ':waiter', ARGV[i], cjson.encode(waiter))
  else
    others[#others + 1] = ARGV[i]
  end
end
redis.call('PEXPIRE', inboxPrefix .. holder, inboxTtl)
return others
