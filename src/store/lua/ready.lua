-- include ledger
-- The index of a deployment's waiting jobs: what BullMQ's own order can't say. Its queues share it, so that they share the places. Nothing
-- that a script does here grows with what waits. R is KEYS[2]; Q is R:q:<queue>:<epoch>, of which a queue has one at a time:
--   R:at:<provider>        sorted set: view -> score; a view is '<queue>:<epoch>:<view id>': what consumers that answer alike can run of a queue
--   R:tenant               hash: tenant -> its account (accounts.lua); kept while it has jobs waiting or in hand, or is in debt
--   R:debt                 sorted set: tenant that has neither -> when it left, in ms
--   R:held                 hash: job id among all queues -> 'since accounted used length queue:', then the secrets that it needs as JSON of that length, then its tenant, of
--                          jobs in consumers' hands; ms and s
--   R:begun                hash: job id among all queues -> queue, of jobs that have a run and are in nobody's hands, as those that wait for a budget. What has gone on is taken
--                          out by the next look (ready-reconcile.lua)
--   R:capped:<tenant>      set: '<queue>:<epoch>:<class>:<view id>' where the tenant waits for its cap, or is asked again when a job of it ends (ready-choose.lua); R:uncapping: tenants for whom some are to be put back
--   R:unpaid:<tenant>      set: '<queue>:<epoch>:<shape>:<view id>' that wait for the tenant's budget: no view shows them. R:unpaid hash: '<queue>:<epoch>:<shape>:<tenant>'
--                          -> why, for people; R:paying:day, R:paying:version sorted sets: tenant -> ms by Redis' clock, and version of the budgets by which it was held, -1 once its own
--                          has changed; R:paying:all: the version by which everybody's did: who was held before is looked at again
--   R:present              hash: provider -> virtual time of the latest turn there
--   R:shares               hash: tenant -> JSON { weight, cap }, as configured; '*' for all others; '' -> since when, in ms
--   R:set                  hash: tenant -> JSON, what operators said of it: see operate.lua; R:lapses: sorted set: tenant -> ms when a part of that is over
--   R:listed, R:epoch      hashes: queue -> how many jobs are listed; its epoch
--   R:garbage              list: '<queue>:<epoch>', or with ':<view id>', that are over, to be taken apart bit by bit
--   R:q:<queue>:ends       sorted set: job id -> when it was looked at last, in ms, of those whose runs are to be ended where they stand, in nobody's hands (`ready.endsSoon`)
--   R:q:<queue>:pause      string: JSON, who paused the queue (src/store/operators.ts)
--   R:q:<queue>:unfit      hash: see fitness.lua;  R:q:<queue>:sweep  hash: see ready-reconcile.lua
--   Q:shape, Q:demand      hashes: shape -> JSON (src/job/constraints.ts); -> 'milliCpu memoryMiB'
--   Q:shapes               sorted set: shape -> number; Q:mapped hash: view id -> number up to which it has said who can run them
--   Q:s:<shape>            sorted set: the tenants that have jobs in it, all with score 0
--   Q:j:<shape>:<tenant>   sorted set: job id -> BullMQ's own score of it: priority * 2^32 + arrival
--   Q:views, Q:policy      sorted set: view id -> when it looked last, to a second; hash: view id -> policy
-- and of each view, V being Q:v:<view id>:
--   V:fit, V:class, V:order  hashes: shape -> class; shape -> JSON: its providers in the order of a policy of one's own; class -> JSON { groups of the providers that can run it, the best first; bucket }
--   V:merge                sorted set: shape -> number, whose tenants are still to be put under its class; V:merged: the last one that was
--   V:p:<provider>         sorted set: class -> score
--   V:a:<class>            sorted set: tenant -> score
--   V:t:<class>:<tenant>   sorted set: shape -> the first score in Q:j
--   Q:deadline             sorted set: job id -> ms at which its time to wait is over;  Q:stuck  shape -> since when nobody can run it
--   Q:empty                sorted set: shape of which nothing waits, and that somebody can run -> since when, in ms; the latest of them
--   Q:passed               hash: shape -> ms since when smaller jobs pass it
--   Q:skipped              string: see ready-choose.lua
-- Everything that the same providers can run is one class, so what waits for a full one costs nothing, and is there when it has room.
-- Where a job stands is the field `sy` of BullMQ's own hash of it, '<epoch> <shape> <tenant>', which goes when the job does.
local call = redis.call
local base = string.gsub(L, 'ledger$', '')
local ownQueue = string.match(I, ':([^:]*)$')
local runPrefix = base .. ':run:'

local function bull(q, part) return base .. q .. ':' .. part end

-- A job's id among all queues, and back; see `runIdOf` and `jobIdOf` in src/job/names.ts. (A script has at most 200 locals: what belongs together is a table.)
local ids = {}
function ids.run(q, jobId)
  if q == 'agents' or string.find(jobId, '^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$')
    or (#jobId == 36 and string.find(string.lower(jobId), '^key%-%x+$')) or string.find(jobId, '%-%d%d%d%d%d%d%d%d[Tt]%d%d%d%d%d%d[Zz]%-%x%x%x%x%x%x%x%x$') then
    return jobId
  end
  return q .. ':' .. jobId
end

function ids.job(q, id)
  local jobId = string.sub(id, 1, #q + 1) == q .. ':' and string.sub(id, #q + 2) or id
  return ids.run(q, jobId) == id and jobId or nil
end

-- How much a call puts right on its way, and has put right.
local ready = { patience = 32, spent = 0 }
-- What was read of queues and shapes; who changes it forgets it.
ready.epochs, ready.demands, ready.entered, ready.counts = {}, {}, {}, {}
-- What `list` has done and `flush` writes.
ready.made, ready.grown, ready.unsaved = 0, {}, {}
-- A shape of which nothing waits is known for so long, and at most so many are.
ready.emptyMs, ready.mostEmpty = 600000, 64

function ready.epochOf(q)
  if not ready.epochs[q] then ready.epochs[q] = call('HGET', R .. ':epoch', q) or '1' end
  return ready.epochs[q]
end
local function keyOf(q, rest, epoch) return R .. ':q:' .. q .. ':' .. (epoch or ready.epochOf(q)) .. ':' .. rest end
local function viewKey(q, view, rest, epoch) return R .. ':q:' .. q .. ':' .. (epoch or ready.epochOf(q)) .. ':v:' .. view .. ':' .. rest end
-- How many jobs of a queue are listed, and that it is so many more.
function ready.listedIn(q)
  ready.counts[q] = ready.counts[q] or tonumber(call('HGET', R .. ':listed', q) or '0')
  return ready.counts[q]
end
function ready.count(q, more) ready.counts[q] = call('HINCRBY', R .. ':listed', q, more) end
function ready.jobsKey(q, shape, name) return keyOf(q, 'j:' .. shape .. ':' .. name) end

-- What accounts.lua, views.lua, unpaid.lua and concurrency.lua fill: every script that includes this includes the last, and so all of them.
local accounts, views, unpaid = {}, {}, {}
-- `advanced`: something came to the front of a line in this call; `leaving`: the tenant that has one less in hand than its account still says; `later`: who is to be woken for
-- what came to the front, once the place that came free is given.
local keyed = { advanced = false, leaving = false, later = false }
-- Not a shape, but what waits for a key.
function keyed.isLine(shape) return string.sub(shape, 1, 1) == '!' end

-- lazily ready: what leaves the index, and what is in consumers' hands.
-- Where a job is listed: shape and tenant; nil when it is not.
function ready.parseListed(q, text)
  local epoch, shape, name = string.match(text or '', '^(%d+) (%S+) (.*)$')
  if epoch == ready.epochOf(q) then return shape, name end
  return nil
end
function ready.listedAt(q, jobId) return ready.parseListed(q, call('HGET', bull(q, jobId), 'sy')) end

function ready.flush()
  for q, count in pairs(ready.grown) do ready.count(q, count) end
  local names = {}
  for name in pairs(ready.unsaved) do names[#names + 1] = name end
  accounts.saveAll(names)
  ready.grown, ready.unsaved = {}, {}
end

-- Takes a job out of the index, wherever it stands in it; with `for now` it still waits. Of one that is not listed, what is said there instead is returned: '-' for one
-- that is to be taken as it is.
function ready.unlist(q, jobId, forNow)
  local text = call('HGET', bull(q, jobId), 'sy')
  local shape, name = ready.parseListed(q, text)
  if not shape then return text end
  call('HDEL', bull(q, jobId), 'sy')
  if not forNow then call('ZREM', keyOf(q, 'deadline'), jobId) end
  if call('ZREM', ready.jobsKey(q, shape, name), jobId) == 1 then ready.count(q, -1) end
  ready.leave(q, shape, name)
  if not forNow then keyed.gone(q, jobId) end
end

-- BullMQ holds a job that was listed, elsewhere than among those that wait for their turn: it is listed nowhere now. It was not given, though it may stand where those do.
function ready.moved(q, jobId) call('HSET', bull(q, jobId), 'sy', '0 - ') end

-- A job whose run has begun, which waits in nobody's hands and is asked to end as cancelled, is taken next: it needs no place, no key and no turn. Returns whether that is so.
function ready.endNext(q, jobId)
  local run = call('HMGET', runPrefix .. ids.run(q, jobId), 'generation', 'result', 'cancelReason')
  if not run[1] or run[2] or not run[3] then return false end
  ready.endSoon(q, jobId)
  ready.unlist(q, jobId)
  if call('ZREM', bull(q, 'prioritized'), jobId) == 0 and call('ZREM', bull(q, 'delayed'), jobId) == 0 then return false end
  call('RPUSH', bull(q, 'wait'), jobId)
  return true
end

-- Its run is to be ended where it stands, should nobody take it: its queue is paused, say, or all consumers have as many jobs as they may.
function ready.endSoon(q, jobId)
  local key = R .. ':q:' .. q .. ':ends'
  call('ZADD', key, string.format('%.0f', redisNow), jobId)
  call('PEXPIRE', key, keyed.keptMs)
end

-- Some of those that nobody has taken for a second: cancelled, unless their work is on its branch, or the runs of jobs that were removed, under whose ids others were added;
-- and those that wait and were superseded. Returns id, 'cancelled', 'other' or 'superseded', …
function ready.endsSoon(q)
  local key, found = R .. ':q:' .. q .. ':ends', {}
  local some = call('ZRANGE', key, 0, 15, 'WITHSCORES')
  for i = 1, #some, 2 do
    -- Redis' clock may have been set back.
    if math.abs(redisNow - tonumber(some[i + 1])) < 1000 then break end
    local jobId = some[i]
    local id, queued = ids.run(q, jobId), call('HMGET', bull(q, jobId), 'timestamp', 'finishedOn')
    local run = call('HMGET', runPrefix .. id, 'generation', 'result', 'cancelReason', 'of')
    local how
    if run[1] and not run[2] then
      how = queued[1] and run[4] and run[4] ~= queued[1] and 'other' or run[3] and 'cancelled'
    elseif queued[1] and not queued[2] and string.sub(call('HGET', R .. ':keyed', q .. ':' .. jobId) or '', 1, 1) == '!' then
      how = 'superseded'
    end
    if not how then
      call('ZREM', key, jobId)
    else
      ready.endSoon(q, jobId)
      local inHand = call('EXISTS', bull(q, jobId) .. ':lock') == 1
      if queued[1] and not inHand and (how ~= 'cancelled' or not keyed.concludes(id, true)) then
        found[#found + 1] = jobId
        found[#found + 1] = how
      end
    end
  end
  return found
end

-- Of a job by its id among all queues.
function ready.heldOf(id)
  local since, accounted, used, length, q, rest = string.match(call('HGET', R .. ':held', id) or '', '^(%S+) (%S+) (%S+) (%d+) ([^:]*):(.*)$')
  if not since then return nil end
  length = tonumber(length)
  return { since = tonumber(since), accounted = tonumber(accounted), used = tonumber(used), q = q, secrets = string.sub(rest, 1, length), tenant = string.sub(rest, length + 1) }
end

function ready.hold(id, h)
  call('HSET', R .. ':held', id, string.format('%.0f %.3f %.3f %d %s:', h.since, h.accounted, h.used, #h.secrets, h.q) .. h.secrets .. h.tenant)
end

-- A job of a tenant comes into consumers' hands: its tenant is charged. One that was in hand already, around this index, is so no more.
function ready.takeUp(q, jobId, name, needed)
  local id = ids.run(q, jobId)
  local before = ready.heldOf(id)
  if before then accounts.settle(id, before) end
  local a = accounts.of(name)
  local whole = a.mean
  a.base = math.max(a.base, a.queues[q] or 0)
  accounts.charge(a, q, accounts.shareOf(name).weight, whole)
  local h = { since = now, accounted = whole, used = 0, q = q, tenant = name, secrets = needed or '[]' }
  accounts.countDue(a, 1, accounts.dueOf(h))
  a.held = a.held + 1
  ready.hold(id, h)
  accounts.save(name)
end

-- A job is out of the consumers' hands; by its id among all queues.
function ready.settle(id)
  local h = ready.heldOf(id)
  local q = h and h.q or ownQueue
  local jobId = ids.job(q, id)
  if jobId then
    call('HDEL', R .. ':q:' .. q .. ':unfit', jobId)
    -- Its tenant has one less in hand than it still says.
    keyed.leaving = h ~= nil and h.tenant
    keyed.release(q, jobId)
    keyed.leaving = false
  end
  if h then accounts.settle(id, h) end
end

-- lazily ready: what comes into it, shapes and epochs.
function ready.forgetShape(q, shape)
  ready.demands[q .. ' ' .. shape], ready.entered[q .. ' ' .. shape] = nil, nil
  for _, view in ipairs(views.of(q)) do views.fits[q .. ' ' .. shape .. ' ' .. view] = nil end
end

function ready.demandOf(q, shape)
  local known = ready.demands[q .. ' ' .. shape]
  if not known then
    local milliCpu, memoryMiB = string.match(call('HGET', keyOf(q, 'demand'), shape) or '0 0', '^(%S+) (%S+)$')
    known = { tonumber(milliCpu), tonumber(memoryMiB) }
    ready.demands[q .. ' ' .. shape] = known
  end
  return known[1], known[2]
end

-- The score of a tenant's first job of a shape; nil when there is none.
function ready.headOf(q, shape, name) return call('ZRANGE', ready.jobsKey(q, shape, name), 0, 0, 'WITHSCORES')[2] end

-- Lists a job under a shape that is entered. `dirty` gathers where the views are to follow: shape -> tenant -> the first score of a list that was begun with
-- these, true for others. What is counted and charged is written by `flush`. `made`: how many lists this call has begun.
function ready.list(q, jobId, shape, name, score, dirty)
  if call('ZADD', ready.jobsKey(q, shape, name), score, jobId) == 1 then ready.grown[q] = (ready.grown[q] or 0) + 1 end
  call('HSET', bull(q, jobId), 'sy', ready.epochOf(q) .. ' ' .. shape .. ' ' .. name)
  local names = dirty[shape] or {}
  local first = names[name]
  -- Whoever has listed another there knows that there is one.
  local begun = first == nil and call('ZADD', keyOf(q, 's:' .. shape), 0, name) == 1
  if begun then ready.made = ready.made + 1 end
  if keyed.isLine(shape) then
    if begun and not call('ZSCORE', keyOf(q, 'shapes'), shape) then call('ZADD', keyOf(q, 'shapes'), 0 - call('INCR', R .. ':numbers'), shape) end
    keyed.stand(q, string.sub(shape, 2), name)
    return
  end
  dirty[shape] = names
  names[name] = begun and score or first or true
  if first and first ~= true and tonumber(score) < tonumber(first) then names[name] = score end
  if not begun then return end
  call('ZREM', keyOf(q, 'empty'), shape)
  local a = accounts.of(name)
  if a.heaps <= 0 and a.held <= 0 then accounts.comeBack(a, name) end
  a.queues[q] = math.max(a.queues[q] or 0, a.base)
  a.heaps = a.heaps + 1
  ready.unsaved[name] = true
end

function ready.placeDirty(q, dirty)
  ready.flush()
  local later = {}
  for shape, names in pairs(dirty) do
    for name, first in pairs(names) do views.placeAll(q, shape, name, later, first ~= true and first or nil) end
  end
  views.refreshAll(q, later)
end

-- Enters a shape, so that jobs can be listed under it.
function ready.enterShape(q, shape, json, milliCpu, memoryMiB)
  if ready.entered[q .. ' ' .. shape] then return end
  if call('HSETNX', keyOf(q, 'shape'), shape, json) == 1 then
    call('HSET', keyOf(q, 'demand'), shape, milliCpu .. ' ' .. memoryMiB)
    call('ZADD', keyOf(q, 'shapes'), call('INCR', R .. ':numbers'), shape)
    ready.forgetShape(q, shape)
  end
  ready.entered[q .. ' ' .. shape] = true
end

-- After jobs of a tenant were taken out of a shape: the views follow, and what is empty goes. `scored`: as of `views.place`.
function ready.leave(q, shape, name, scored)
  if not keyed.isLine(shape) then
    if views.placeAll(q, shape, name, nil, nil, scored) then return end
  else
    keyed.stand(q, string.sub(shape, 2), name)
    if call('EXISTS', ready.jobsKey(q, shape, name)) == 1 then return end
  end
  if call('ZREM', keyOf(q, 's:' .. shape), name) == 1 and not keyed.isLine(shape) then
    local a = accounts.of(name)
    a.heaps = a.heaps - 1
    accounts.save(name)
  end
  if call('EXISTS', keyOf(q, 's:' .. shape)) == 1 then return end
  call('HDEL', keyOf(q, 'passed'), shape)
  -- What somebody can run is kept for a while: most often the next job is of a shape that was there before, and nobody needs to be asked about it again.
  local known = false
  for _, view in ipairs(keyed.isLine(shape) and {} or views.of(q)) do known = known or views.classOf(q, view, shape) end
  if not known then return ready.dropShape(q, shape) end
  local empty = keyOf(q, 'empty')
  call('ZADD', empty, now, shape)
  local oldest = call('ZRANGE', empty, 0, 0, 'WITHSCORES')
  if oldest[1] ~= shape and (now - tonumber(oldest[2]) > ready.emptyMs or call('ZCARD', empty) > ready.mostEmpty) then ready.dropShape(q, oldest[1]) end
end

-- Forgets a shape of which nothing waits.
function ready.dropShape(q, shape)
  for _, view in ipairs(views.of(q)) do
    call('HDEL', viewKey(q, view, 'fit'), shape)
    call('HDEL', viewKey(q, view, 'order'), shape)
    call('ZREM', viewKey(q, view, 'merge'), shape)
  end
  for _, part in ipairs({ 'demand', 'shape' }) do call('HDEL', keyOf(q, part), shape) end
  for _, part in ipairs({ 'shapes', 'stuck', 'empty' }) do call('ZREM', keyOf(q, part), shape) end
  call('HDEL', R .. ':q:' .. q .. ':unfit', shape)
  ready.forgetShape(q, shape)
end

-- Begins the index of a queue anew: what was listed is gone from BullMQ, every one of it.
function ready.newEpoch(q)
  local old, viewIds = ready.epochOf(q), {}
  for i, view in ipairs(views.of(q)) do viewIds[i] = q .. ':' .. old .. ':' .. view end
  for _, provider in ipairs(viewIds[1] and call('SMEMBERS', L) or {}) do call('ZREM', R .. ':at:' .. provider, unpack(viewIds)) end
  call('RPUSH', R .. ':garbage', q .. ':' .. old)
  ready.epochs[q] = string.format('%.0f', tonumber(old) + 1)
  views.known[q] = nil
  call('HSET', R .. ':epoch', q, ready.epochs[q])
  call('HDEL', R .. ':listed', q)
  ready.counts[q] = nil
end

-- A job that has begun is in nobody's hands, and waits to be gone on with.
function ready.keepBegun(q, jobId) call('HSET', R .. ':begun', ids.run(q, jobId), q) end
