-- include operate
-- Holds the index against BullMQ, a bounded part of it in each call, by one of a queue's consumers at a time. What BullMQ holds of waiting jobs has
-- scores of priority * 2^32 + a number that it counts up with each job that it puts there, whatever the way:
-- * all since the last call: of each priority those with higher numbers. It finds what was added, retried, promoted or given another priority.
-- * a window of all, the next call the next one: it finds what the first can't, such as what is put back without a number.
-- * while more are listed than BullMQ holds, a part of the index: what BullMQ does not hold any more is dropped, before it comes up.
-- * some tenants' places in the queue's views: those that stand too far behind are put forward.
-- * some of BullMQ's job schedulers: a next job that stands in no list any more is put back.
-- * a part of the jobs in hand, and of those that have begun and are in nobody's: those that BullMQ does not hold any more, or was told the end of, are told.
-- * once the shares are others, the tenants that wait for their cap.
-- What operators said of tenants for a time is taken away when that is over.
-- R:q:<queue>:sweep  hash: holder, until (ms), from (a rank), seen, upTo (numbers), priority and number (from which on the first goes on),
--                    complete (whether all were listed), hand, begun (cursors),
--                    shape, tenant, rank (from which the third goes on), keyed, line (of keys of concurrency: from where to look on),
--                    view, class, behind (from where the places of tenants are looked at), scheduler (a rank),
--                    shares, sharing (since when the shares hold whose tenants have been put back where they waited for their cap; the cursor of those of the latest, '' when all are)
-- ARGV: inbox prefix, inbox ttl, holder, for how many ms it stays its business.
-- Returns {1 if there is more to look at now, jobs that are to be listed: id, 1 if it holds a place or is in hand yet, …; jobs in hand that are gone;
-- for how many ms it is another's business; 1 if the time is over for which an operator paused the queue;
-- 1 if there is something to be taken apart (ready-tidy.lua); as of `ready.endsSoon`}.
local q, holder, ttl = ownQueue, ARGV[3], tonumber(ARGV[4])
local window, prioritiesPerCall, mostMissing = 500, 128, 100
-- Of longer lists it is not asked whether a job stands in them.
local schedulersPerCall, mostListed = 4, 5000
local prioritized, sweep = bull(q, 'prioritized'), R .. ':q:' .. q .. ':sweep'
local state = call('HMGET', sweep, 'holder', 'until', 'from', 'seen', 'upTo', 'priority', 'number', 'complete', 'hand', 'shape', 'tenant', 'rank', 'keyed', 'line', 'begun', 'view', 'class', 'behind', 'scheduler', 'shares', 'sharing')
-- Further ahead than anybody sets it: Redis' clock was set back.
local left = state[1] and state[1] ~= holder and tonumber(state[2]) - now or 0
if left > 0 and left <= 10 * ttl then return { 0, {}, {}, left, 0, 0, {} } end
if call('ZCARD', prioritized) == 0 and ready.listedIn(q) > 0 then ready.newEpoch(q) end

-- Lines have numbers below 0.
local lowest = '-9007199254740991'
local missing, dirty = {}, {}
-- Returns whether it stands in the index as BullMQ has it, now or after this.
local function check(jobId, score)
  local shape, name = ready.listedAt(q, jobId)
  if shape then
    local key = ready.jobsKey(q, shape, name)
    local known = call('ZSCORE', key, jobId)
    if not known then ready.list(q, jobId, shape, name, score, dirty) elseif known ~= score then
      call('ZADD', key, score, jobId)
      if not keyed.isLine(shape) then views.placeAll(q, shape, name) end
      keyed.rescored(q, jobId, shape, name, score)
    end
    return true
  end
  if #missing < 2 * mostMissing and call('EXISTS', bull(q, jobId)) == 1 then
    missing[#missing + 1] = jobId
    local id = ids.run(q, jobId)
    missing[#missing + 1] = (call('HEXISTS', L .. ':jobs', id) == 1 or call('HEXISTS', R .. ':held', id) == 1) and 1 or 0
  end
  return false
end

-- Numbers begin again when BullMQ has nothing waiting. What producers have listed one after the other need not be looked at (ready-add.lua).
local counted = tonumber(call('GET', bull(q, 'pc')) or '0') % 4294967296
local seen, upTo = tonumber(state[4] or '0'), tonumber(state[5] or '')
local priority, number, complete = tonumber(state[6] or '0'), tonumber(state[7] or '0'), state[8] ~= '0'
if counted < seen then seen = 0 end
if not upTo or counted < upTo then upTo, priority, number, complete = counted, 0, 0, true end
local over, looked = seen >= upTo, 0
for _ = 1, prioritiesPerCall do
  if over or looked >= window then break end
  local first = call('ZRANGEBYSCORE', prioritized, string.format('%.0f', priority * 4294967296), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  over = not first[2]
  if first[2] then
    if math.floor(tonumber(first[2]) / 4294967296) > priority then priority, number = math.floor(tonumber(first[2]) / 4294967296), 0 end
    local from = priority * 4294967296
    local found = call('ZRANGEBYSCORE', prioritized, string.format('(%.0f', from + math.max(seen, number)), string.format('%.0f', from + upTo), 'WITHSCORES', 'LIMIT', 0, window - looked)
    for k = 1, #found, 2 do
      if not check(found[k], found[k + 1]) then complete = false end
    end
    looked = looked + #found / 2
    if looked >= window then number = tonumber(found[#found]) % 4294967296 else priority, number = priority + 1, 0 end
  end
end
local more = not over or #missing > 0
if over then
  if complete then seen = math.max(seen, upTo) end
  upTo, priority, number, complete = counted, 0, 0, true
end

local from = tonumber(state[3] or '0')
local part = call('ZRANGE', prioritized, from, from + window - 1, 'WITHSCORES')
for i = 1, #part, 2 do check(part[i], part[i + 1]) end
from = #part < 2 * window and 0 or from + window

-- From the job of that rank of a shape's tenant on, `left` jobs, tenants and shapes in all.
ready.flush()
local shapeNumber, tenant, rank, left = tonumber(state[10] or lowest), state[11] or '', tonumber(state[12] or '0'), 256
while left > 0 and ready.listedIn(q) > call('ZCARD', prioritized) do
  left = left - 1
  local shape = call('ZRANGEBYSCORE', keyOf(q, 'shapes'), string.format('%.0f', shapeNumber), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not shape[1] then
    shapeNumber, tenant, rank = tonumber(lowest), '', 0
    break
  end
  if tonumber(shape[2]) > shapeNumber then shapeNumber, tenant, rank = tonumber(shape[2]), '', 0 end
  -- The first time the tenant that was begun, if it is there.
  local name = call('ZRANGEBYLEX', keyOf(q, 's:' .. shape[1]), '[' .. tenant, '+', 'LIMIT', 0, 1)[1]
  if not name then
    shapeNumber, tenant, rank = shapeNumber + 1, '', 0
  else
    if name ~= tenant then tenant, rank = name, 0 end
    local key, dropped = ready.jobsKey(q, shape[1], name), 0
    local jobs = call('ZRANGE', key, rank, rank + left - 1)
    for _, jobId in ipairs(jobs) do
      left = left - 1
      local at, whose = ready.listedAt(q, jobId)
      local here = at == shape[1] and whose == name
      if not here or not call('ZSCORE', prioritized, jobId) then
        call('ZREM', key, jobId)
        if here then ready.moved(q, jobId) end
        dropped = dropped + 1
        left = left - 1
        -- Another that has come under its id may stand elsewhere.
        if here or not at then keyed.gone(q, jobId) end
      end
    end
    rank = rank + #jobs - dropped
    if dropped > 0 then ready.count(q, 0 - dropped) end
    local more = call('ZCARD', key) > rank
    if dropped > 0 then ready.leave(q, shape[1], name) end
    -- The next one behind it.
    if not more then tenant, rank = name .. '\0', 0 end
  end
end

-- BullMQ's drain passes over the next job of each scheduler, and then cuts as many as it has removed from the end of the list at which that stands (6.7.0): it is in no list then,
-- and its scheduler has stopped.
local schedulers = call('ZRANGE', bull(q, 'repeat'), state[19] or '0', (state[19] or 0) + schedulersPerCall - 1, 'WITHSCORES')
for i = 1, #schedulers, 2 do
  local jobId = 'repeat:' .. schedulers[i] .. ':' .. schedulers[i + 1]
  local job = call('HMGET', bull(q, jobId), 'name', 'finishedOn', 'priority')
  local stands = not job[1] or job[2]
  for _, set in ipairs({ 'delayed', 'prioritized', 'waiting-children' }) do stands = stands or call('ZSCORE', bull(q, set), jobId) end
  for _, list in ipairs({ 'wait', 'active', 'paused' }) do stands = stands or call('LLEN', bull(q, list)) > mostListed or call('LPOS', bull(q, list), jobId) end
  if not stands then
    call('ZADD', prioritized, string.format('%.0f', (tonumber(job[3]) or 0) * 4294967296 + call('INCR', bull(q, 'pc')) % 4294967296), jobId)
    missing[#missing + 1] = jobId
    missing[#missing + 1] = 0
  end
end

local gone = {}
-- BullMQ does not hold it any more, or was told that it has ended by somebody who is none of our consumers, as a worker of an application's own: nobody takes it then.
local function isGone(jobId, id)
  local ended = call('HMGET', bull(q, jobId), 'timestamp', 'finishedOn')
  if not ended[1] then return call('EXISTS', bull(q, jobId)) == 0 end
  if not ended[2] then return false end
  local run = call('HMGET', runPrefix .. id, 'generation', 'result')
  return run[1] and not run[2]
end
local hand = call('HSCAN', R .. ':held', state[9] or '0', 'COUNT', 64)
for i = 1, #hand[2], 2 do
  local h = ready.heldOf(hand[2][i])
  local jobId = h and h.q == q and ids.job(q, hand[2][i])
  if jobId and isGone(jobId, hand[2][i]) then gone[#gone + 1] = jobId end
end
local begun = call('HSCAN', R .. ':begun', state[15] or '0', 'COUNT', 64)
for i = 1, #begun[2], 2 do
  local id, jobId = begun[2][i], begun[2][i + 1] == q and ids.job(q, begun[2][i])
  if jobId then
    local run = call('HMGET', runPrefix .. id, 'generation', 'result')
    if not run[1] or run[2] or call('HEXISTS', R .. ':held', id) == 1 then
      call('HDEL', R .. ':begun', id)
    elseif isGone(jobId, id) then
      gone[#gone + 1] = jobId
    end
  end
end
ready.placeDirty(q, dirty)
operate.lapse(4)
-- Who paused the queue is of interest only while it is: it may have been resumed from BullMQ's board.
local pauseOver, pause = 0, call('GET', R .. ':q:' .. q .. ':pause')
if pause and call('HEXISTS', bull(q, 'meta'), 'paused') == 0 then
  call('DEL', R .. ':q:' .. q .. ':pause')
elseif pause then
  local untilMs = cjson.decode(pause).untilMs
  pauseOver = type(untilMs) == 'number' and untilMs <= redisNow and 1 or 0
end
-- The shares are others: whoever waits for its cap may have more now. Some at a time; the rest of what these have in many places is put back by looks.
local since, shares, sharing = call('HGET', R .. ':shares', '') or '', state[20], state[21] or ''
if since ~= (shares or '') then shares, sharing = since, '0' end
if sharing ~= '' then
  local part = call('HSCAN', R .. ':tenant', sharing, 'COUNT', 32)
  for i = 1, #part[2], 2 do
    local a, cap = accounts.parse(part[2][i + 1]), accounts.shareOf(part[2][i]).cap
    if a.heaps > 0 and (not cap or a.held < cap) and call('EXISTS', R .. ':capped:' .. part[2][i]) == 1 then views.uncap(part[2][i]) end
  end
  sharing = part[1] == '0' and '' or part[1]
  more = more or sharing ~= ''
end
local stood = views.sweep(q, { state[16] or '', state[17] or '', state[18] or '-inf' })
local keyedCursor, lineNumber = keyed.sweep(q, state[13] or '0', state[14] or '-inf')
call('HSET', sweep, 'shares', shares or '', 'sharing', sharing, 'view', stood[1], 'class', stood[2], 'behind', stood[3], 'keyed', keyedCursor, 'line', lineNumber, 'holder', holder, 'until', now + ttl, 'from', from, 'seen', string.format('%.0f', seen), 'upTo', string.format('%.0f', upTo),
  'priority', string.format('%.0f', priority), 'number', string.format('%.0f', number), 'complete', complete and '1' or '0', 'hand', hand[1], 'begun', begun[1],
  'shape', string.format('%.0f', shapeNumber), 'tenant', tenant, 'rank', string.format('%.0f', rank), 'scheduler', schedulers[1] and (state[19] or 0) + schedulersPerCall or 0)
call('PEXPIRE', sweep, math.max(10 * ttl, 60000))
return { more and 1 or 0, missing, gone, 0, pauseOver, call('EXISTS', R .. ':garbage'), ready.endsSoon(q) }
