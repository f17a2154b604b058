-- include concurrency
-- include next-run
-- What is to be known of a job that BullMQ gave out though another one was expected.
-- KEYS[4]: the run. ARGV: inbox prefix, inbox ttl, job id, how often it had stalled when it was taken. Returns {1 if it is listed as waiting, the provider at which it holds a place or '', 1 if
-- it has a run that has not ended}.
local id = redis.call('HGET', L .. ':jobs', ids.run(ownQueue, ARGV[3]))
local lease = id and ledger.getLease(id)
-- It was taken before it was listed, which is when it is seen otherwise (ready-add.lua).
nextRun.taken(KEYS[4], bull(ownQueue, ARGV[3]), ARGV[4], false)
local run = redis.call('HMGET', KEYS[4], 'generation', 'result')
return { ready.listedAt(ownQueue, ARGV[3]) and 1 or 0, lease and lease.provider or '', run[1] and not run[2] and 1 or 0 }
