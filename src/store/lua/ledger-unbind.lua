-- include concurrency
-- Takes a place from an owner that needs it no more: it becomes a reservation that has expired. A job needs its place as long as its
-- run has not ended; that is looked at in this very step.
-- KEYS[4]: the run, when the owner is a job. ARGV: inbox prefix, inbox ttl, lease id, owner. Returns 1, or 0 when it was left alone.
local id, owner = ARGV[3], ARGV[4]
local lease = ledger.getLease(id)
if not lease or lease.jobId ~= owner then return 0 end
if KEYS[4] then
  local run = redis.call('HMGET', KEYS[4], 'generation', 'result')
  if run[1] and not run[2] then return 0 end
  ready.settle(owner)
end
lease.jobId = nil
redis.call('HSET', L .. ':lease', id, cjson.encode(lease))
if redis.call('HGET', L .. ':jobs', owner) == id then redis.call('HDEL', L .. ':jobs', owner) end
redis.call('ZADD', ledger.leasesKey(lease.provider), 0, id)
return 1
