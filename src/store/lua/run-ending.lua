-- include event-append
-- include costs
-- The end of a run: result, what is left of the record, and completion event in one step, so that there is never one without the others.
-- From KEYS[k]: run, log stream, log account, events, claim, branches to delete, BullMQ's hash of the job, account of the events.
-- From ARGV[a]: fence, what is left of the record, now, result, event, 1 when its data is the result, which is put in here, else 0, and behind that, where
--               there is anything to tell, JSON: hooks, early (events that come before, each as `appendEvent` takes it: id, kind, job, hooks, event), charge (what it cost, as of `costs.settle`), call
--               (the number of the holder's write that these build on, or ''); event id, bounds of the events or '', retention in ms, done channel, job id among all queues,
--               then for each branch: when to delete it, and the branch.
-- Returns 'lost', 'stale' (that write was lost; nothing was done), 'repeated' (this fence has ended it already: an answer was lost) or 'finished'.
-- `written`: the script has written something before, so that a Redis without memory has refused it.
local function endRun(k, a, written)
  local run, log, account, events, claim, branches, queuedJob, eventAccount = unpack(KEYS, k, k + 7)
  local fence, left, at, result, event, carries, eventId, bounds, retention, done, jobId = unpack(ARGV, a, a + 10)
  local more = #carries > 1 and cjson.decode(string.sub(carries, 2)) or { hooks = '', call = '', early = {} }
  if string.sub(carries, 1, 1) == '1' then event = string.sub(event, 1, -2) .. ',"data":' .. result .. '}' end
  local state = redis.call('HMGET', run, 'fence', 'result', 'seq', 'generation', 'of', 'otherOf', 'otherReason', 'otherAtMs')
  if state[1] ~= fence then return 'lost' end
  if state[2] then return 'repeated' end
  if more.call ~= '' then
    local written = redis.call('HMGET', run, 'callFence', 'call')
    if (written[1] == fence and tonumber(written[2]) or 0) ~= more.call then return 'stale' end
  end
  local seq = tonumber(state[3] or '0') + 1
  local ended = { 'generation', state[4], 'fence', fence, 'result', result, 'record', left, 'atMs', at }
  -- Left out where there was no output: it is 1 then.
  if seq > 1 then
    ended[#ended + 1] = 'seq'
    ended[#ended + 1] = seq
  end
  -- How often the job had stalled, and who has taken it last, who knows of this end: whether BullMQ has ended it as well can be told from that (next-run.lua). '-' when it
  -- is in nobody's hands: nobody has taken it, or who did has lost it, and BullMQ does not hear of the end from that one. Left out when it has never stalled.
  local queued = redis.call('HMGET', queuedJob, 'processedOn', 'stc', 'timestamp')
  local inHand = queued[1] and redis.call('EXISTS', queuedJob .. ':lock') == 1
  local stalls = inHand and (queued[2] or '0') or '-'
  if stalls ~= '0' then
    ended[#ended + 1] = 'stalls'
    ended[#ended + 1] = stalls
  end
  if inHand then
    ended[#ended + 1] = 'toldAtMs'
    ended[#ended + 1] = queued[1]
  end
  -- Whose run it is: another job may come under its id, or has come already, whose run this is not.
  ended[#ended + 1] = 'of'
  ended[#ended + 1] = state[5] or queued[3] or '0'
  -- A request to cancel that one.
  for i, field in ipairs(state[6] and { 'otherOf', 'otherReason', 'otherAtMs' } or {}) do
    ended[#ended + 1] = field
    ended[#ended + 1] = state[5 + i]
  end
  -- Written before anything is deleted: a Redis without memory refuses it here. A hash keeps the table that it has grown, so it is made anew.
  if not written then redis.call('HSET', run, 'result', result) end
  redis.call('DEL', run)
  redis.call('HSET', run, unpack(ended))
  for _, early in ipairs(more.early) do appendEvent(events, eventAccount, bounds, early[1], early[5], seq - 1, early[2], early[3], early[4]) end
  appendEvent(events, eventAccount, bounds, eventId, event, seq, '', '', more.hooks)
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
  local budgets = string.sub(run, 1, -1 - #('run:' .. jobId)) .. 'costs'
  if more.charge then costs.settle(more.charge) else costs.forgo(budgets, jobId) end
  -- What it might cost was said of this run, whether or not it was charged for anything.
  redis.call('HDEL', budgets .. ':caps', 'j:' .. jobId)
  redis.call('PUBLISH', done, jobId)
  return 'finished'
end
