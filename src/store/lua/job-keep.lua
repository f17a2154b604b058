-- Has BullMQ keep a job that ended while it waited as it keeps those that end in a consumer's hands (moveToFinished-14.lua): among the failed ones, where it is found, and can be
-- run again.
-- KEYS: BullMQ's hash of the job; its prioritized, delayed, waiting and failed jobs; its events. ARGV: job id, why it ended, how many are kept.
-- Returns 'kept'; 'locked' where a consumer is taking it, which tells BullMQ of the end; or 'other' for one that is only to be removed: a flow, a scheduler or a deduplication of BullMQ's
-- has to do with it, nothing is to be kept of it, or it stands elsewhere.
local key, prioritized, delayed, waiting, failed, events = unpack(KEYS)
local jobId, why, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', key .. ':lock') == 1 then return 'locked' end
local known = redis.call('HMGET', key, 'opts', 'finishedOn', 'parentKey', 'rjk', 'deid')
if known[2] then return 'kept' end
if not known[1] or known[3] or known[4] or known[5] or redis.call('EXISTS', key .. ':dependencies') == 1 then return 'other' end
local readable, opts = pcall(cjson.decode, known[1])
local keeps = readable and type(opts) == 'table' and opts.removeOnFail
if keeps == true then return 'other' end
local count = tonumber(type(keeps) == 'table' and keeps.count or keeps or nil)
if count == 0 then return 'other' end
if count and count > 0 then most = count end
local stood = redis.call('ZSCORE', prioritized, jobId) and 'prioritized' or redis.call('ZSCORE', delayed, jobId) and 'delayed' or redis.call('LPOS', waiting, jobId) and 'waiting'
if not stood then return 'other' end
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
-- First what a full Redis refuses.
redis.call('HSET', key, 'failedReason', why, 'finishedOn', string.format('%.0f', nowMs), 'delay', 0)
redis.call('HINCRBY', key, 'atm', 1)
redis.call('ZADD', failed, string.format('%.0f', nowMs), jobId)
if stood == 'prioritized' then
  redis.call('ZREM', prioritized, jobId)
elseif stood == 'delayed' then
  redis.call('ZREM', delayed, jobId)
else
  redis.call('LREM', waiting, 1, jobId)
end
-- The oldest go, as with each end of BullMQ's own; by age they do with these.
local over = redis.call('ZCARD', failed) - most
if over > 0 then
  local prefix = string.sub(key, 1, #key - #jobId)
  for _, old in ipairs(redis.call('ZRANGE', failed, 0, math.min(over, 2) - 1)) do
    local oldKey = prefix .. old
    redis.call('ZREM', failed, old)
    redis.call('DEL', oldKey, oldKey .. ':logs', oldKey .. ':dependencies', oldKey .. ':processed', oldKey .. ':failed', oldKey .. ':unsuccessful')
  end
end
redis.call('XADD', events, 'MAXLEN', '~', 10000, '*', 'event', 'failed', 'jobId', jobId, 'failedReason', why, 'prev', stood)
return 'kept'
