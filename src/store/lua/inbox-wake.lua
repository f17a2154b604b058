-- include ledger
-- Wakes idle consumers of the queue: each is taken out of the idle set, so that two calls never wake the same one for two jobs.
-- ARGV: inbox prefix, inbox ttl, how many. Returns how many were woken.
return #ledger.wakeIdle(tonumber(ARGV[3]))
