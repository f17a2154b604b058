-- include event-append
-- The end of a run: result, what is left of the record, and completion event in one step, so that there is never one without the others.
-- From KEYS[k]: run, log stream, log account, events, claim, branches to delete, BullMQ's hash of the job, account of the events.
-- From ARGV[a]: fence, what is left of the record, now, result, event, 1 when its data is the result, which is put in here, event id, bounds of the
--               events or '', retention in ms, done channel, job id among all queues, then for each branch: when to delete it, and the branch.
-- Returns 'lost', 'repeated' (this fence has ended it already: an answer was lost) or 'finished'.
local function endRun(k, a)
  local run, log, account, events, claim, branches, queuedJob, eventAccount = unpack(KEYS, k, k + 7)
  local fence, left, at, result, event, carries, eventId, bounds, retention, done, jobId = unpack(ARGV, a, a + 10)
  if carries == '1' then event = string.sub(event, 1, -2) .. ',"data":' .. result .. '}' end
  local state = redis.call('HMGET', run, 'fence', 'result', 'seq', 'generation', 'cancelReason', 'cancelAtMs')
  if state[1] ~= fence then return 'lost' end
  if state[2] then return 'repeated' end
  local seq = tonumber(state[3] or '0') + 1
  local ended = { 'generation', state[4], 'fence', fence, 'result', result, 'record', left, 'atMs', at, 'seq', seq }
  if state[5] then for i, name in ipairs({ 'cancelReason', 'cancelAtMs' }) do
    ended[#ended + 1] = name
    ended[#ended + 1] = state[4 + i]
  end end
  -- How often the job had stalled: whether BullMQ has ended it as well can be told from that (run-acquire.lua).
  local queued = redis.call('HMGET', queuedJob, 'processedOn', 'stc')
  if queued[1] then
    ended[#ended + 1] = 'stalls'
    ended[#ended + 1] = queued[2] or '0'
  end
  -- Written before anything is deleted: a Redis without memory refuses it here. A hash keeps the table that it has grown, so it is made anew.
  redis.call('HSET', run, 'result', result)
  redis.call('DEL', run)
  redis.call('HSET', run, unpack(ended))
  appendEvent(events, eventAccount, bounds, eventId, event, seq)
  for _, key in ipairs({ run, claim }) do redis.call('PEXPIRE', key, retention) end
  -- The last entry of a run's log: followers stop here. A run without output has no log; its followers are told by the channel.
  if redis.call('EXISTS', log) == 1 then
    redis.call('XADD', log, seq .. '-0', 'end', '1', 't', at)
    for _, field in ipairs(redis.call('HKEYS', account)) do
      local channel = string.match(field, '^tail:(.*)$')
      if channel then redis.call('PEXPIRE', account .. ':' .. channel, retention) end
    end
    for _, key in ipairs({ log, account }) do redis.call('PEXPIRE', key, retention) end
  end
  for i = a + 11, #ARGV, 2 do redis.call('ZADD', branches, ARGV[i], ARGV[i + 1]) end
  redis.call('PUBLISH', done, jobId)
  return 'finished'
end
