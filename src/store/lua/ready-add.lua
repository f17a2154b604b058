-- include ready-choose
-- include next-run
-- include tidying
-- Lists jobs that BullMQ holds as waiting; those that it does not, and those that are listed already, are left out.
-- ARGV: inbox prefix, inbox ttl, how many jobs are listed after these by the same caller, 1 for jobs that BullMQ may hold in its wait list, where priority 0
--       lands and whatever is moved without one, how many consumers to wake, how many shapes, for each: id, JSON, milliCpu, memoryMiB; then for each job: id, number of its
--       shape, tenant, for how many ms it may wait or '', its key of concurrency as JSON { key, limit, after } or ''. At most 20 jobs.
-- Returns {how many were listed; of jobs that are superseded by these, or dropped: queue, id, why, …; of those of these that had ended and stay so: '', id, another one that has
-- its key}.
local q, rest, strays, wakes, shapes = ownQueue, tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local prioritized, wait = bull(q, 'prioritized'), bull(q, 'wait')
local jobs, asked = {}, {}
for i = 7 + 4 * shapes, #ARGV, 5 do asked[#asked + 1] = ARGV[i] end
local scores = asked[1] and call('ZMSCORE', prioritized, unpack(asked)) or {}
for k, jobId in ipairs(asked) do
  local score, i = scores[k], 2 + 4 * shapes + 5 * k
  if not score and strays and call('EXISTS', bull(q, jobId)) == 1 and call('LREM', wait, -1, jobId) == 1 then
    local priority = tonumber(call('HGET', bull(q, jobId), 'priority') or '0') or 0
    score = string.format('%.0f', priority * 4294967296 + call('INCR', bull(q, 'pc')) % 4294967296)
    call('ZADD', prioritized, score, jobId)
  end
  if score then jobs[#jobs + 1] = { id = jobId, shape = 3 + 4 * tonumber(ARGV[i + 1]), tenant = ARGV[i + 2], wait = tonumber(ARGV[i + 3]), key = ARGV[i + 4], score = score } end
end
local listed = ready.listedIn(q)
if listed > #jobs and call('ZCARD', prioritized) <= #jobs + rest then
  -- BullMQ holds nothing but what comes now: all that was listed before is gone, but for those of these.
  local before = 0
  for _, job in ipairs(jobs) do
    if ready.listedAt(q, job.id) then before = before + 1 end
  end
  if before == 0 then ready.newEpoch(q) end
end
local added, dirty, deadlines = 0, {}, call('EXISTS', keyOf(q, 'deadline')) == 1
local runIds, tenants, inHand = {}, {}, {}
for k, job in ipairs(jobs) do
  runIds[k] = ids.run(q, job.id)
  if not inHand[job.tenant] then tenants[#tenants + 1] = job.tenant end
  inHand[job.tenant] = true
end
inHand = jobs[1] and call('HMGET', R .. ':held', unpack(runIds)) or {}
-- The run of one that was removed, under whose id another comes, is not that one's to end: whoever takes it may be long in coming.
local begun = jobs[1] and call('HMGET', R .. ':begun', unpack(runIds)) or {}
for k, job in ipairs(jobs) do
  if begun[k] or inHand[k] then
    local run, added = call('HMGET', runPrefix .. runIds[k], 'of', 'result'), call('HGET', bull(q, job.id), 'timestamp')
    if added and run[1] and not run[2] and run[1] ~= added then ready.endSoon(q, job.id) end
  end
end
accounts.read(tenants)
for k, job in ipairs(jobs) do
  local standing, timestamp, title = unpack(call('HMGET', bull(q, job.id), 'sy', 'timestamp', 'name'))
  local shape, name = ready.parseListed(q, standing)
  if shape and call('ZSCORE', ready.jobsKey(q, shape, name), job.id) ~= job.score then
    ready.unlist(q, job.id)
    shape = nil
  end
  if not shape and inHand[k] then
    -- It was put back by one that has not said so yet, or removed while it was in hand, and added anew: whoever takes it finds what has become of its run.
    local key = call('HGET', R .. ':keyed', q .. ':' .. job.id)
    if key and string.sub(key, 1, 1) == '!' then
      keyed.supersede(q, job.id, string.sub(key, 2))
    elseif call('ZREM', prioritized, job.id) == 1 then
      call('RPUSH', wait, job.id)
    end
  elseif not shape and (timestamp or title) then
    local id = ARGV[job.shape]
    local run, queued = runPrefix .. runIds[k], bull(q, job.id)
    if strays then nextRun.note(run, queued) end
    -- One that was removed may have stood under its id.
    keyed.gone(q, job.id)
    local ends = strays and ready.endNext(q, job.id)
    if job.wait and not ends then call('ZADD', keyOf(q, 'deadline'), now + job.wait, job.id) elseif deadlines then call('ZREM', keyOf(q, 'deadline'), job.id) end
    if ends then
      -- It is taken as it is.
    elseif job.key == '' then
      keyed.release(q, job.id)
      ready.enterShape(q, id, ARGV[job.shape + 1], ARGV[job.shape + 2], ARGV[job.shape + 3])
      ready.list(q, job.id, id, job.tenant, job.score, dirty)
    else
      local info = cjson.decode(job.key)
      info.shape, info.json, info.milliCpu, info.memoryMiB, info.tenant = id, ARGV[job.shape + 1], ARGV[job.shape + 2], ARGV[job.shape + 3], job.tenant
      local waits, _, _, last = nextRun.generation(run, queued)
      info.run = waits or last
      keyed.arrive(q, job.id, job.score, info, function() return nextRun.stay(run, queued) end)
    end
    added = added + 1
  end
end
ready.placeDirty(q, dirty)
-- Whoever makes lists takes as many apart of what is over: however often a queue is filled and drained, what is left does not pile up.
local left = ready.made
while left > 0 do
  local apart = tidying.some()
  left = apart == 0 and 0 or left - apart
end
-- BullMQ's numbers of these follow those that were seen: nobody needs to look for what was put there around the index (ready-reconcile.lua).
local least, most = math.huge, 0
for _, job in ipairs(jobs) do
  local number = tonumber(job.score) % 4294967296
  least, most = math.min(least, number), math.max(most, number)
end
local sweep = R .. ':q:' .. q .. ':sweep'
if #jobs > 0 and most - least + 1 == #jobs and (least == 1 or least == tonumber(call('HGET', sweep, 'seen') or '0') + 1) then
  call('HSET', sweep, 'seen', string.format('%.0f', most))
end
-- Gives what has just come, with its place, to an idle consumer of a view that can run it, which needs no look then. Returns whether that is done; where something else is to be put
-- right first, or where not all is known that a look would learn, it is not.
local function handTo(job, view, class)
  if choice.policyOf(q, view) == 'own' then return false end
  if choice.anySeldom(q, R .. ':uncapping', R .. ':paying:day', viewKey(q, view, 'merge'), keyOf(q, 'stuck')) then
    if ledger.anyWaits() or call('EXISTS', R .. ':uncapping', R .. ':paying:day', viewKey(q, view, 'merge'), keyOf(q, 'stuck')) > 0 then return false end
    if call('ZCOUNT', keyOf(q, 'deadline'), '-inf', now) > 0 then return false end
  end
  local newest = call('ZREVRANGE', keyOf(q, 'shapes'), 0, 0, 'WITHSCORES')[2]
  if tonumber(newest or '0') > tonumber(call('HGET', keyOf(q, 'mapped'), view) or '0') then return false end
  local free = {}
  for _, group in ipairs(views.classAt(q, view, class)[1]) do
    for _, provider in ipairs(group) do
      if ledger.room(ledger.read(provider), 0, 0) == 'fits' then free[provider] = ledger.read(provider) end
    end
  end
  if next(free) == nil then return false end
  local found = choice.choose(free, function(queue, other) return choice.isOpen(queue) and ledger.idleConsumer(queue, other) ~= nil end, function(queue, other, jobId)
    return ledger.idleConsumer(queue, other), 'on/' .. jobId .. '/' .. string.format('%.0f', now)
  end)
  if found then ledger.wake(found.q, found.holder, found) end
  return found and found.holder and found.q == q and found.jobId == job.id
end

-- As `handTo`; and returns besides the view of an idle consumer that can run it, where there is one.
local function handNew(job)
  local shape = ready.listedAt(q, job.id)
  if not shape or keyed.isLine(shape) then return false end
  -- Consumers differ: those that are believed longest may be such as can't run it.
  local view, class
  for _, each in ipairs(ledger.idleViews(q)) do
    class = each and each ~= view and views.classOf(q, each, shape)
    view = each
    if class then break end
  end
  if not class then return false end
  return handTo(job, view, class), view
end
if wakes > 0 and #jobs == 1 and added == 1 then
  local given, view = handNew(jobs[1])
  local able = not given and view and ledger.idleConsumer(q, view)
  -- The one that is believed longest hears more; see below.
  if able == ledger.idlest(q)[1] then able = nil end
  if able then ledger.wake(q, able) end
  if given or able then wakes = wakes - 1 end
end
-- The first of a view that is woken hears what its view has said nothing of, in its order, as a look would tell it; and says so with its first look.
if wakes > 0 then
  local mostAsked, mostBytes, told = 16, 16384, {}
  ledger.wakeIdle(wakes, function(view)
    if told[view] then return nil end
    told[view] = true
    local found = call('ZRANGEBYSCORE', keyOf(q, 'shapes'), '(' .. (call('HGET', keyOf(q, 'mapped'), view) or '0'), '+inf', 'WITHSCORES', 'LIMIT', 0, mostAsked)
    local about, left = {}, mostBytes
    for i = 1, #found, 2 do
      left = left - call('HSTRLEN', keyOf(q, 'shape'), found[i])
      -- What is long is asked about by the look.
      if left < 0 then break end
      about[#about + 1] = { id = found[i], number = tonumber(found[i + 1]), json = call('HGET', keyOf(q, 'shape'), found[i]) or '' }
    end
    return #about > 0 and { view = view, about = about } or nil
  end)
end
table.insert(keyed.superseded, 1, added)
return keyed.superseded
