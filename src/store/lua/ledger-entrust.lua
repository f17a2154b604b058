-- include ledger
-- Leaves a job's place to what may still live in it, so that the job can take another one.
-- KEYS[4]: the run. ARGV: inbox prefix, inbox ttl, the job's id among all queues, fence, the new owner, for how many ms or '', at which provider or ''. Returns 1, 0 when the job holds
-- none (there), or 'lost'.
local jobId, owner = ARGV[3], ARGV[5]
if redis.call('HGET', KEYS[4], 'fence') ~= ARGV[4] then return 'lost' end
local id = redis.call('HGET', L .. ':jobs', jobId)
local lease = id and ledger.getLease(id)
if not lease or (ARGV[7] ~= '' and lease.provider ~= ARGV[7]) then return 0 end
lease.jobId = owner
lease.since = now
redis.call('HSET', L .. ':lease', id, cjson.encode(lease))
redis.call('HDEL', L .. ':jobs', jobId)
redis.call('HSET', L .. ':jobs', owner, id)
if ARGV[6] ~= '' then redis.call('ZADD', ledger.leasesKey(lease.provider), now + tonumber(ARGV[6]), id) end
return 1
