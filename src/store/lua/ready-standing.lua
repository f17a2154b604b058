-- include concurrency
-- include next-run
-- What is to be known of a job that BullMQ gave out though another one was expected. One that has begun, or has a place, and came around the index is in hand from now on.
-- KEYS[4]: the run. ARGV: inbox prefix, inbox ttl, job id, how often it had stalled when it was taken, its tenant, the secrets that it needs as JSON. Returns {1 if it is listed
-- as waiting, the provider at which it holds a place or '', 1 if it has a run that has not ended, 1 if it was in hand}.
local jobId, name = ARGV[3], ARGV[5]
local own = ids.run(ownQueue, jobId)
local id = redis.call('HGET', L .. ':jobs', own)
local lease = id and ledger.getLease(id)
-- It was taken before it was listed, which is when it is seen otherwise (ready-add.lua).
nextRun.taken(KEYS[4], bull(ownQueue, jobId), ARGV[4], false)
local run = redis.call('HMGET', KEYS[4], 'generation', 'result')
local listed, begun, held = ready.listedAt(ownQueue, jobId), run[1] and not run[2], ready.heldOf(own)
if not held and not listed and (begun or lease) then
  local a = accounts.of(name)
  if a.heaps <= 0 and a.held <= 0 then accounts.comeBack(a, name) end
  ready.takeUp(ownQueue, jobId, name, ARGV[6])
end
return { listed and 1 or 0, lease and lease.provider or '', begun and 1 or 0, held and 1 or 0 }
