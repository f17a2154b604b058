-- include concurrency
-- include next-run
-- A job whose last run has ended while it waits, which BullMQ does not know of, is to be run again where it stands: whoever takes it begins its next run. It is
-- to be listed anew, as one that comes.
-- KEYS[4]: the run. ARGV: inbox prefix, inbox ttl, job id. Returns 1, or 0 when that is not so, or somebody else was first.
local jobId = ARGV[3]
if not (call('ZSCORE', bull(ownQueue, 'prioritized'), jobId) or call('LPOS', bull(ownQueue, 'wait'), jobId)) or not nextRun.again(KEYS[4], bull(ownQueue, jobId)) then return 0 end
ready.unlist(ownQueue, jobId)
return 1
