-- include drop-log
-- include next-run
-- Takes a run over, or starts it. Raises the fence, so that the holder before can write nothing more.
-- KEYS: run, the other keys that a run's end lets expire (log stream, log account, claim), the ledger, BullMQ's hash of the job, branches to delete, and
--       where the job may wait for so long only, until when (waits-add.lua), the index.
-- ARGV: holder, generation, fresh record, now in ms, job id among all queues, the provider at which the fresh record needs the job's place or '', how often the
--       job had stalled when it was taken out of the queue, '' when nobody took it, 1 when the fresh record goes on from the checkpoint of the run that
--       has ended, that checkpoint's branch or '', the job's id in its queue where it may wait
--       for so long only, else '', the token of BullMQ's lock by which the caller has the job, or '', its queue.
-- Returns {'ended', result}, {'acquired', fence, record, created 0/1, cancel reason or false, cancel time or false, what has changed of the record: fields and
-- their JSON, for how many ms more a run that begins may wait by Redis' clock where that is bounded, else false, by how many ms
-- the caller's clock is ahead of the one that the record's times are by}, or {'retried', generation of the run that is next}, {'continues'} (the run is to go on from the one that has ended, see run-continue.lua), or
-- {'placeless'}: the run would begin with the fresh record, but its place has been freed; nothing is written. Likewise {'gone'}: BullMQ has not given the caller this job, or
-- not any more; and {'other'}: the run is that of a job which was removed from the queue, and another one was added under the same id; it is to be ended first.
-- So is one of which is said {'unended'}: BullMQ was told by somebody else that the job had ended, and then to run it again.
local run, ledger = KEYS[1], KEYS[5]
local holder, generation, fresh, now, jobId, provider = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local stored = redis.call('HMGET', run, 'generation', 'result', 'record', 'continue', 'fence', 'cancelReason', 'cancelAtMs', 'of', 'otherOf', 'otherReason', 'otherAtMs', 'skew', 'atMs')
local known, result, record = tonumber(stored[1] or '0'), stored[2], stored[3]
local queuedSince
if ARGV[11] ~= '' then
  if redis.call('GET', KEYS[6] .. ':lock') ~= ARGV[11] then return { 'gone' } end
  queuedSince = redis.call('HGET', KEYS[6], 'timestamp')
  if record and not result and stored[8] and queuedSince and stored[8] ~= queuedSince then return { 'other' } end
  if record and not result and known < generation then return { 'unended' } end
end
-- A request to cancel that came before the first holder stays; that of a run that has ended does not.
local cancelReason, cancelAtMs = not result and stored[6], not result and stored[7]
if known >= generation and result then
  local waits = nextRun.taken(run, KEYS[6], ARGV[7], true)
  return waits and { 'retried', waits } or { 'ended', result }
end
local created, changes, waitEnds = 0, {}, nil
local function readChanges()
  local all = redis.call('HGETALL', run)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'r:' then
      changes[#changes + 1] = all[i]
      changes[#changes + 1] = all[i + 1]
    end
  end
end
if known < generation or not record then
  local other = stored[8] and queuedSince and stored[8] ~= queuedSince
  if stored[4] and stored[4] == stored[1] and record and not other and ARGV[8] ~= '1' then return { 'continues' } end
  -- In the same step as the write: the reaper may free a place as long as no run needs it.
  if provider ~= '' then
    local lease = redis.call('HGET', ledger .. ':jobs', jobId)
    lease = lease and redis.call('HGET', ledger .. ':lease', lease)
    if not lease or cjson.decode(lease).provider ~= provider then return { 'placeless' } end
  end
  -- A retry of the whole job: it has a log of its own. Sequence numbers go on, so that who has read the old one reads on in the new.
  if known > 0 then dropLog(KEYS[2], KEYS[3]) end
  if result then
    redis.call('HDEL', run, 'result', 'reason', 'cancelReason', 'cancelAtMs', 'stalls', 'continue', 'toldAtMs', 'again', 'of', 'otherOf', 'otherReason', 'otherAtMs')
    -- As run-ending.lua leaves it out.
    redis.call('HSETNX', run, 'seq', 1)
  end
  if known > 0 then
    readChanges()
    for i = 1, #changes, 2 do redis.call('HDEL', run, changes[i]) end
    changes = {}
  end
  -- From now on it is this run's, whose end plans its deletion anew.
  if ARGV[8] == '1' and ARGV[9] ~= '' then redis.call('ZREM', KEYS[7], ARGV[9]) end
  -- The time to wait is over: its end would be the next run's, of a retry.
  if ARGV[10] ~= '' then
    waitEnds = redis.call('ZSCORE', KEYS[8], ARGV[10])
    redis.call('ZREM', KEYS[8], ARGV[10])
  end
  record = fresh
  created = 1
  -- `of`: when the job was added, by which it is told from another one of the same id.
  redis.call('HSET', run, 'generation', generation, 'record', record)
  if queuedSince then redis.call('HSET', run, 'of', queuedSince) end
  -- It was asked for while the run was another job's.
  if stored[9] and stored[9] == queuedSince then
    cancelReason, cancelAtMs = stored[10], stored[11]
    redis.call('HSET', run, 'cancelReason', cancelReason, 'cancelAtMs', cancelAtMs)
  end
else
  readChanges()
end
-- Not only higher than the one before but of this moment: when a failover or a crash of Redis has lost an acquire, the number
-- that its holder believes in is not given out again.
local time = redis.call('TIME')
local redisNow = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = math.max(tonumber(stored[5] or '0') + 1, redisNow)
-- The record's times are by the clock of who had it before: by how much that was ahead of Redis', and what was taken off it. A clock that is ahead of that
-- one by more than a minute counts as if it were not, and none from before it stopped: one that is wrong by hours neither ends a job nor has it run on.
local skew, ahead = tonumber(now) - redisNow, 0
local skewBefore, aheadBefore = string.match(created == 0 and stored[12] or '', '^(-?%d+) (-?%d+)$')
if skewBefore then
  local more, since = skew - tonumber(skewBefore), tonumber(now) - (tonumber(stored[13]) - tonumber(aheadBefore))
  if math.min(more, since) > 60000 or since < -60000 then ahead = math.min(math.max(more, 0), since) end
end
redis.call('HSET', run, 'fence', string.format('%.0f', fence), 'holder', holder, 'atMs', now, 'skew', string.format('%.0f %.0f', skew - ahead, ahead))
-- What was about to expire stays: of an ended job that is run again all of it, of a first run a request to cancel that came before, and the claim.
for i = known > 0 and 1 or 4, 4 do redis.call('PERSIST', KEYS[i]) end
if known == 0 and stored[6] then redis.call('PERSIST', run) end
-- Taken around the index, it is not counted as in hand: should the job be removed, nobody else would know that the run is to be ended (ready.keepBegun).
if ARGV[11] ~= '' and redis.call('HEXISTS', KEYS[9] .. ':held', jobId) == 0 then redis.call('HSET', KEYS[9] .. ':begun', jobId, ARGV[12]) end
-- What this call wrote its caller has.
return { 'acquired', fence, created == 1 and '' or record, created, cancelReason, cancelAtMs, changes, waitEnds and tonumber(waitEnds) - redisNow or false, ahead }
