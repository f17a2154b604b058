-- include ready-leave
-- include next-run
-- Has BullMQ keep a job that ended while it waited as it keeps those that end in a consumer's hands (moveToFinished-14.lua): among the failed ones, where it is found, and can be
-- run again. It leaves the consumers' hands with that (leaveHands).
-- KEYS[4]: the run. ARGV: inbox prefix, inbox ttl, job id, why it ended, how many are kept.
-- Returns 'kept'; 'locked' where a consumer is taking it, or takes it next, which tells BullMQ of the end; 'again' where it is to be run again already; or 'other' for one that is only to be removed: a
-- flow, a scheduler or a deduplication of BullMQ's has to do with it, nothing is to be kept of it, or it stands elsewhere.
local run, jobId, why, most = KEYS[4], ARGV[3], ARGV[4], tonumber(ARGV[5])
local key, prioritized, delayed, waiting, failed = bull(ownQueue, jobId), bull(ownQueue, 'prioritized'), bull(ownQueue, 'delayed'), bull(ownQueue, 'wait'), bull(ownQueue, 'failed')
if call('EXISTS', key .. ':lock') == 1 then return 'locked' end
local opts, finishedOn, parent, scheduler, deduplication, stalled, taken = unpack(call('HMGET', key, 'opts', 'finishedOn', 'parentKey', 'rjk', 'deid', 'stc', 'processedOn'))
if finishedOn then
  leaveHands(jobId, nil, true)
  return 'kept'
end
if nextRun.generation(run, key) then return 'again' end
-- The parent of its flow is to hear of a failure, or is not to wait any longer: without it, it would run as if it had never had this child. BullMQ sees to that when it is told of an end.
local isChild, child = pcall(cjson.decode, parent and call('HGET', key, 'parent') or '')
if isChild and type(child) == 'table' and (child.fpof or child.cpof) then
  local stands = call('ZSCORE', prioritized, jobId) or call('ZSCORE', delayed, jobId) or call('ZSCORE', bull(ownQueue, 'waiting-children'), jobId)
  if not stands and not call('LPOS', waiting, jobId) then return 'other' end
  if stands then call('RPUSH', waiting, jobId) end
  for _, each in ipairs({ prioritized, delayed, bull(ownQueue, 'waiting-children') }) do call('ZREM', each, jobId) end
  leaveHands(jobId, nil, true)
  call('HSET', key, 'sy', '-')
  ledger.wakeIdle(1)
  return 'locked'
end
if not opts or parent or scheduler or deduplication or call('EXISTS', key .. ':dependencies') == 1 then return 'other' end
local readable, read = pcall(cjson.decode, opts)
local keeps
if readable and type(read) == 'table' then keeps = read.removeOnFail end
if keeps == true then return 'other' end
-- As BullMQ reads it: a number is how many are kept, false and one below nought all, and so is an age without a number. Where nothing is said a consumer's default holds.
local count = tonumber(type(keeps) == 'table' and keeps.count or keeps or nil)
if count == 0 then return 'other' end
if count and count > 0 then most = math.ceil(count) elseif count or keeps == false or type(keeps) == 'table' then most = math.huge end
local stood = call('ZSCORE', prioritized, jobId) and 'prioritized' or call('ZSCORE', delayed, jobId) and 'delayed' or call('LPOS', waiting, jobId) and 'waiting'
if not stood then return 'other' end
local nowMs = string.format('%.0f', redisNow)
call('HSET', key, 'failedReason', why, 'finishedOn', nowMs, 'delay', 0)
call('HINCRBY', key, 'atm', 1)
-- As nextRun.taken has it of one whose end is told: by this it is seen when BullMQ was told to run the job again.
if call('HEXISTS', run, 'result') == 1 then call('HSET', run, 'stalls', stalled or '0', 'toldAtMs', taken or '0') end
call('ZADD', failed, nowMs, jobId)
if stood == 'prioritized' then
  call('ZREM', prioritized, jobId)
elseif stood == 'delayed' then
  call('ZREM', delayed, jobId)
else
  call('LREM', waiting, 1, jobId)
end
-- The oldest go, as at each end that BullMQ is told of; what is too old goes at the next of those.
local over = call('ZCARD', failed) - most
if over > 0 then
  for _, old in ipairs(call('ZRANGE', failed, 0, math.min(over, 2) - 1)) do
    local oldKey = bull(ownQueue, old)
    call('ZREM', failed, old)
    call('DEL', oldKey, oldKey .. ':logs', oldKey .. ':dependencies', oldKey .. ':processed', oldKey .. ':failed', oldKey .. ':unsuccessful')
  end
end
call('XADD', bull(ownQueue, 'events'), 'MAXLEN', '~', 10000, '*', 'event', 'failed', 'jobId', jobId, 'failedReason', why, 'prev', stood)
leaveHands(jobId, nil, true)
return 'kept'
