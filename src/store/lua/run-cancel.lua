-- include event-append
-- include drop-log
-- Cancels a job: ends it at once when nobody has taken it yet, asks its supervisor otherwise.
-- KEYS: run, log stream, events, claim, log account, account of the events, the budgets that were set (costs.lua), BullMQ's hash of the job.
-- ARGV: reason ('' to end what waits and ask nobody), now, generation that waits ('' when the caller has none to end), result, event, event id,
--       bounds of the events or '', retention in ms, cancel channel, done channel, the job's id among all queues, and the numbers of the job's webhooks
--       that the event goes to, if any.
-- Returns 'cancelled', 'requested' or 'ended'.
local run, log, events, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local reason, now, waiting, retention = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[8]
local state = redis.call('HMGET', run, 'generation', 'result', 'seq', 'record')
local generation = tonumber(state[1] or '0')
-- BullMQ was told by somebody else that the job had ended, and then to run it again: whoever takes it ends that run first (run-acquire.lua), which is told too.
local unended = waiting and generation < waiting and state[4] and not state[2]
if state[2] and (not waiting or generation >= waiting) then return 'ended' end
if waiting and generation < waiting and not unended then
  local seq = tonumber(state[3] or '0') + 1
  -- The log of an earlier run is not this one's.
  if generation > 0 then dropLog(log, KEYS[5]) end
  redis.call('HDEL', run, 'record', 'reason', 'holder', 'continue', 'cancelReason', 'cancelAtMs', 'toldAtMs', 'again', 'otherOf', 'otherReason', 'otherAtMs', 'skew')
  -- The fence goes up, so that nothing of an earlier generation can be written any more.
  redis.call('HINCRBY', run, 'fence', 1)
  redis.call('HSET', run, 'generation', waiting, 'result', ARGV[4], 'atMs', now, 'seq', seq, 'stalls', '-', 'of', redis.call('HGET', KEYS[8], 'timestamp') or '0')
  appendEvent(events, KEYS[6], ARGV[7], ARGV[6], ARGV[5], seq, '', '', ARGV[12])
  -- Followers stop here; where there is no log they are told by the channel.
  if redis.call('EXISTS', log) == 1 then redis.call('XADD', log, seq .. '-0', 'end', '1', 't', now) end
  for _, key in ipairs({ run, log, claim }) do redis.call('PEXPIRE', key, retention) end
  -- What it might have cost was said of this run.
  redis.call('HDEL', KEYS[7], 'j:' .. ARGV[11])
  redis.call('PUBLISH', ARGV[10], ARGV[11])
  return 'cancelled'
end
if reason == '' then return 'requested' end
-- The run is that of a job which was removed, and another one stands under its id, or is not the job's last: the request is to the run that begins once this has ended.
local of, added = redis.call('HGET', run, 'of'), redis.call('HGET', KEYS[8], 'timestamp')
if added and (unended or (of and of ~= added)) then
  if redis.call('HGET', run, 'otherOf') ~= added then redis.call('HSET', run, 'otherOf', added, 'otherReason', reason, 'otherAtMs', now) end
  return 'requested'
end
-- The first request counts; a second one only calls again.
redis.call('HSETNX', run, 'cancelReason', reason)
redis.call('HSETNX', run, 'cancelAtMs', now)
if generation == 0 then redis.call('PEXPIRE', run, retention) end
redis.call('PUBLISH', ARGV[9], cjson.encode({ jobId = ARGV[11], reason = redis.call('HGET', run, 'cancelReason') }))
return 'requested'
