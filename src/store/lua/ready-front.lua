-- include concurrency
-- Puts a job that a consumer gave back before all others: whoever looks next takes it, and needs no place for it.
-- ARGV: inbox prefix, inbox ttl, job id, 1 for a job that can't be listed and is to be taken as it is. Returns whether it was there, and wakes a consumer.
local jobId, q = ARGV[3], ownQueue
ready.unlist(q, jobId)
local found = call('ZREM', bull(q, 'prioritized'), jobId) == 1
if found then call('RPUSH', bull(q, 'wait'), jobId) end
-- Of one that BullMQ has ended, or that a consumer has taken just now and ends, nothing is left, or it would be taken as it is, without a place, once it is run again.
if ARGV[4] == '1' and call('EXISTS', bull(q, jobId)) == 1 and call('EXISTS', bull(q, jobId) .. ':lock') == 0 and call('HEXISTS', bull(q, jobId), 'finishedOn') == 0 then
  call('HSET', bull(q, jobId), 'sy', '-')
  found = true
end
-- A run that has no place is not counted as in hand: should the job be removed meanwhile, nobody else would know that the run is to be ended.
local id = ids.run(q, jobId)
local run = call('HMGET', runPrefix .. id, 'generation', 'result')
if run[1] and not run[2] and call('HEXISTS', R .. ':held', id) == 0 and call('EXISTS', bull(q, jobId)) == 1 then ready.keepBegun(q, jobId) end
if not found then return 0 end
ledger.wakeIdle(1)
return 1
