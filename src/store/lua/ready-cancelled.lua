-- include concurrency
-- A job that was asked to end as cancelled: where its run has begun and waits in nobody's hands, as for a budget, whoever looks next takes it.
-- ARGV: inbox prefix, inbox ttl, job id. Returns 1, or 0 when that is not so.
if not ready.endNext(ownQueue, ARGV[3]) then return 0 end
ledger.wakeIdle(1)
return 1
