-- include event-append
-- Ends a run: record, result and completion event in one step, so that there is never one without the others.
-- KEYS: run, log stream, log account, events, claim, branches to delete, BullMQ's hash of the job, account of the events.
-- ARGV: fence, record, now, result, event, event id, bounds of the events or '', retention in ms, done channel, job id,
--       then for each branch: when to delete it, and the branch.
-- Returns 'lost', 'repeated' (this fence has ended it already: an answer was lost) or 'finished'.
local run, log, account, events, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, retention = ARGV[3], ARGV[8]
local state = redis.call('HMGET', run, 'fence', 'result', 'endedFence', 'seq')
if state[2] then
  if state[3] == ARGV[1] then return 'repeated' end
  return 'lost'
end
if state[1] ~= ARGV[1] then return 'lost' end
redis.call('HSET', run, 'record', ARGV[2], 'result', ARGV[4], 'endedFence', ARGV[1], 'atMs', now, 'seq', tonumber(state[4] or '0') + 1)
-- How often the job had stalled: whether BullMQ has ended it as well can be told from that (run-acquire.lua).
local queued = redis.call('HMGET', KEYS[7], 'processedOn', 'stc')
if queued[1] then redis.call('HSET', run, 'stalls', queued[2] or '0') end
redis.call('HDEL', run, 'reason')
appendEvent(events, KEYS[8], ARGV[7], ARGV[6], ARGV[5], tonumber(state[4] or '0') + 1)
-- The last entry of a run's log: followers stop here. A run without output has no log; its followers are told by the channel.
if redis.call('EXISTS', log) == 1 then redis.call('XADD', log, (tonumber(state[4] or '0') + 1) .. '-0', 'end', '1', 't', now) end
for _, field in ipairs(redis.call('HKEYS', account)) do
  local channel = string.match(field, '^tail:(.*)$')
  if channel then redis.call('PEXPIRE', account .. ':' .. channel, retention) end
end
for _, key in ipairs({ run, log, account, claim }) do redis.call('PEXPIRE', key, retention) end
for i = 11, #ARGV, 2 do redis.call('ZADD', KEYS[6], ARGV[i], ARGV[i + 1]) end
redis.call('PUBLISH', ARGV[9], ARGV[10])
return 'finished'
