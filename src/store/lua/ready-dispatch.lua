-- include ready-choose
-- include tidying
-- Chooses the next job and its place, binds the two, and puts the job where BullMQ takes the next one from. What is another queue's turn is handed
-- on to one of its consumers on the way.
-- ARGV: inbox prefix, inbox ttl, holder, lease id, limits of the holder's providers as JSON, what it has found of shapes as JSON [[shape, number, groups of
--       providers, the best first; or why it can't run them], …], ms for which to count as idle when there is nothing (more); 0 to not; what the caller has
--       as JSON { profile, view, providers, secrets, shares, policy }: its profile's id, that of its view, the providers and secrets that it can use now, whether it knows of
--       tenants' shares, and how it chooses in a group: 'most-free', 'fastest', 'given' or 'own'; grace in ms; how many more jobs the caller has room for, '' for one.
-- Returns {what, job id or '', provider at which it has its place or '', loads as JSON (where shapes are asked about, or the policy is 'own'), ms until there may be room or a job without anything given
--          back or '', shapes that this profile has not said anything of (id, number, JSON, …), 1 if there is nothing more to take now, the job that
--          waited to be taken or '', why it or the chosen one is given: '' or 'stranded' or 'nobody' (see `standOf`), 'overdue' when its time to
--          wait is over; reasons as a JSON list, 1 if the tenants' shares are lost, jobs that are to be listed, 1 if as many jobs are
--          active as the queue may have}. `what`:
--   'take'     BullMQ's wait list holds a job whose time has come: this one, or one that was stalled or handed over
--   'nothing'  no job, or no place for one
--   'again'    what was to be put right took up this call: ask again
--
-- Order: tenants by their turns, a tenant's jobs by priority and arrival. A job that has no place now is passed over by those
-- behind it that have one; when a place that it can use becomes free it is before all that came after it.
local holder, leaseId, limits, said, idleMs = ARGV[3], ARGV[4], cjson.decode(ARGV[5]), cjson.decode(ARGV[6]), tonumber(ARGV[7])
local mine, grace = cjson.decode(ARGV[8]), tonumber(ARGV[9])
local profile, me, usable, secrets = mine.profile, mine.view, fitness.asSet(mine.providers), fitness.asSet(mine.secrets)
local sharesLost = mine.shares and redis.call('EXISTS', R .. ':shares') == 0
local q = ownQueue
local prioritized, wait, active, delayed = bull(q, 'prioritized'), bull(q, 'wait'), bull(q, 'active'), bull(q, 'delayed')
-- How many jobs that were handed over are looked at, delayed ones let go, and shapes asked for.
local perLook = { handed = 32, delayed = 32, unknown = 64, handedOn = 8, tenants = 64, unpaid = 4 }
local viewTtlMs = 600000
local names, kept, free = {}, {}, {}
local unknown, strays = {}, {}
local laterMs
local atConcurrency = 0

if call('ZCARD', prioritized) == 0 and ready.listedIn(q) > 0 then ready.newEpoch(q) end
local anew, wasAway = views.looksAnew(q, me)
if anew and call('HGET', keyOf(q, 'policy'), me) ~= mine.policy then call('HSET', keyOf(q, 'policy'), me, mine.policy) end
local meta = choice.metaOf(q)
choice.policies[q .. ' ' .. me] = mine.policy
-- Besides, jobs that somebody has had in hand, tenants that may have more, and what was learned or can't be run. Each is asked for by itself only where there is any.
local seldom = choice.anySeldom(q, wait, R .. ':uncapping', R .. ':paying:day', viewKey(q, me, 'merge'), keyOf(q, 'stuck'))
local due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')

-- Whether nothing waits for anybody at providers that the caller can use, and nothing is to be put right: then no more is asked, but once a second.
local function isQuiet()
  if anew or #said > 0 or sharesLost or meta[1] or meta[2] or meta[3] or mine.policy == 'own' or seldom or due[1] or ready.listedIn(q) > 0 then return false end
  local lists = {}
  for name in pairs(usable) do lists[#lists + 1] = R .. ':at:' .. name end
  return not lists[1] or call('EXISTS', unpack(lists)) == 0
end

-- What this view's consumers say of a shape: one that is gone meanwhile they need to say nothing of.
local function learn(shape, number, what)
  if call('HEXISTS', keyOf(q, 'shape'), shape) == 1 then
    if mine.policy == 'own' and type(what) == 'table' and what[1] then
      call('HSET', viewKey(q, me, 'order'), shape, cjson.encode(what[1]))
      table.sort(what[1])
    end
    local class = type(what) == 'table' and #what > 0 and views.enterClass(q, me, what, ready.demandOf(q, shape)) or nil
    local known = views.classOf(q, me, shape)
    -- Where the class is another one now, whoever comes upon its tenants in the old one takes them out.
    if known and known ~= class then call('HDEL', viewKey(q, me, 'fit'), shape) end
    ready.forgetShape(q, shape)
    if class and class == known then
      -- As before, or only in another order.
    elseif class then
      call('HSET', viewKey(q, me, 'fit'), shape, class)
      call('ZADD', viewKey(q, me, 'merge'), number, shape)
      call('ZREM', keyOf(q, 'stuck'), shape)
      local refusals = fitness.refusalsOf(shape)
      if refusals.by[profile] then
        refusals.by[profile], refusals.since = nil, nil
        fitness.saveRefusals(shape, refusals)
      end
    elseif type(what) ~= 'table' then
      fitness.refuseShape(shape, profile, what)
    end
  end
  if number > tonumber(call('HGET', keyOf(q, 'mapped'), me) or '0') then call('HSET', keyOf(q, 'mapped'), me, string.format('%.0f', number)) end
end

-- Puts tenants of shapes that were learned into the view, so many in a call. Returns whether there are more.
local function merge(most)
  local later = {}
  while true do
    local shape = call('ZRANGE', viewKey(q, me, 'merge'), 0, 0)[1]
    if not shape or most <= 0 then
      views.refreshAll(q, later)
      return shape ~= nil
    end
    local from = call('GET', viewKey(q, me, 'merged'))
    local tenants = call('ZRANGEBYLEX', keyOf(q, 's:' .. shape), from and '(' .. from or '-', '+', 'LIMIT', 0, most)
    for _, name in ipairs(tenants) do views.place(q, me, shape, name, ready.headOf(q, shape, name), later) end
    if #tenants < most then
      call('ZREM', viewKey(q, me, 'merge'), shape)
      call('DEL', viewKey(q, me, 'merged'))
    else
      call('SET', viewKey(q, me, 'merged'), tenants[#tenants])
    end
    most = most - math.max(1, #tenants)
  end
end

-- A consumer becomes idle in the very step that leaves nothing for it, so that no wake-up goes past it; one that can take no
-- more, or looks again by itself, is woken for nothing.
local function answer(what, jobId, provider, waited, stand, why)
  local soonest, loads, spare, queued = laterMs or '', {}, false, ready.listedIn(q) > 0
  for i, name in ipairs(names) do
    local p = ledger.read(name)
    -- Only who is asked for an order of providers, or follows them with one of its own, needs to know.
    if #unknown > 0 or mine.policy == 'own' then loads[i] = ledger.load(p) end
    if usable[name] and not kept[name] and ledger.room(p, 0, 0) == 'fits' then spare = true end
    local ms = queued and ledger.opensIn(p)
    if ms and (soonest == '' or ms < soonest) then soonest = ms end
  end
  local last = what == 'nothing' or (what == 'take' and jobId and not (queued and spare))
  local viewsOfIdle = I .. ':view'
  -- One that has no room after this job is of no use to anybody who has a place to give.
  local room = tonumber(ARGV[10]) and tonumber(ARGV[10]) - (what == 'take' and 1 or 0)
  if last and idleMs > 0 and (not room or room > 0) then
    ledger.expireIdle()
    redis.call('ZADD', I, now + idleMs, holder)
    redis.call('HSET', viewsOfIdle, holder, me, 'room:' .. holder, room or (what == 'take' and 0 or 1))
    redis.call('PEXPIRE', I, 2 * idleMs)
    redis.call('PEXPIRE', viewsOfIdle, 2 * idleMs)
  else
    ledger.notIdle(I, { holder })
  end
  return { what, jobId or '', provider or '', #loads == 0 and '[]' or cjson.encode(loads), soonest, unknown, last and 1 or 0,
    waited or '', stand or '', why or '[]', sharesLost and 1 or 0, strays, atConcurrency }
end

-- A job's sandbox, or the one that was being made for it, is at this provider: where it has its place, or as its record says.
local function providerOf(jobId)
  local id = ids.run(q, jobId)
  local lease = redis.call('HGET', L .. ':jobs', id)
  lease = lease and ledger.getLease(lease)
  if lease then return lease.provider end
  local texts = redis.call('HMGET', runPrefix .. id, 'record', 'r:sandbox', 'r:creating')
  local record = texts[1] and cjson.decode(texts[1]) or {}
  -- What has changed of it stands beside it.
  local sandbox, creating = record.sandbox, record.creating
  if texts[2] then sandbox = cjson.decode(texts[2]) end
  if texts[3] then creating = cjson.decode(texts[3]) end
  local at = type(sandbox) == 'table' and sandbox or type(creating) == 'table' and creating
  return at and at.provider or nil
end

-- Whether this consumer takes a job that was in somebody's hands, and why; nil when it leaves it to others:
--   ''          it has what the job needs
--   'stranded'  nobody has, for longer than the grace: it may go on elsewhere
--   'nobody'    and everybody has found that it can't: it is to be ended, by one that reaches its sandbox if there is one
local function standOf(jobId)
  local provider = providerOf(jobId)
  local refusals = fitness.refusalsOf(jobId)
  -- One that another superseded while it waited, or that has begun and was cancelled while it waits, is to be ended: anybody can.
  local function toEnd()
    if string.sub(call('HGET', R .. ':keyed', q .. ':' .. jobId) or '', 1, 1) == '!' then return true end
    local run = redis.call('HMGET', runPrefix .. ids.run(q, jobId), 'generation', 'result', 'cancelReason')
    return run[1] and not run[2] and run[3]
  end
  -- Unless it has found that it can't: it may be no job that can be read.
  if not provider and toEnd() and not fitness.refuses(refusals, profile) then return 'stranded' end
  local held = ready.heldOf(ids.run(q, jobId))
  local needed = held and cjson.decode(held.secrets) or {}
  local function has(providers, known)
    if provider and not providers[provider] then return false end
    for _, name in ipairs(needed) do
      if not known[name] and not known['*'] then return false end
    end
    return true
  end
  if has(usable, secrets) and not fitness.refuses(refusals, profile) then return '' end
  local sinceMs = fitness.nobodySince(jobId, refusals, function(other) return has(other.providers, other.secrets) end)
  if not sinceMs then return nil end
  -- Its end need not wait for whoever might have gone on.
  local run = redis.call('HMGET', runPrefix .. ids.run(q, jobId), 'cancelReason', 'generation', 'result')
  if run[1] and not (run[2] and run[3]) then return 'stranded' end
  if sinceMs < grace then return nil end
  if not fitness.refuses(refusals, profile) then return 'stranded' end
  local reached = false
  for id, other in pairs(fitness.profiles()) do
    if not fitness.refusesForGood(refusals, id) then return nil end
    if provider and other.providers[provider] then reached = true end
  end
  if reached and not usable[provider] then return nil end
  return 'nobody', fitness.reasons(refusals)
end

-- Whether a job was chosen just now for a consumer that takes it with the end of another one, and has not done so yet. One that dies meanwhile leaves it here.
local function isFetched(jobId)
  local sinceMs = string.match(call('HGET', L .. ':jobs', ids.run(q, jobId)) or '', '^end/.*/(%d+)$')
  if not sinceMs or now - tonumber(sinceMs) >= 2000 then return false end
  local run = call('HMGET', runPrefix .. ids.run(q, jobId), 'generation', 'result')
  return not run[1] or run[2] ~= false
end

-- Whether a job in BullMQ's wait list was in somebody's hands, or chosen; others came there around the index, and are to be listed.
local function wasInHand(jobId)
  local id = ids.run(q, jobId)
  if call('HEXISTS', L .. ':jobs', id) == 1 or call('HEXISTS', R .. ':held', id) == 1 or call('HEXISTS', unfit, jobId) == 1 then return true end
  local standing, run = call('HGET', bull(q, jobId), 'sy'), call('HMGET', runPrefix .. id, 'generation', 'result')
  -- One that has begun and was listed waits for its turn: it was given priority 0 meanwhile. Whoever is given has not that.
  return standing == '-' or (run[1] and not run[2] and not standing)
end

if isQuiet() then return answer('nothing') end
ledger.configure(limits)
for _, each in ipairs(limits) do
  local name = each.provider
  names[#names + 1] = name
  kept[name] = ledger.grant(name)
  if usable[name] and not kept[name] and ledger.room(ledger.read(name), 0, 0) == 'fits' then free[name] = ledger.read(name) end
end
if meta[2] and call('LLEN', active) + call('LLEN', wait) >= tonumber(meta[2]) then atConcurrency = 1 end
if meta[1] or (meta[2] and call('LLEN', active) >= tonumber(meta[2])) then return answer('nothing') end
if meta[3] and tonumber(call('GET', bull(q, 'limiter')) or '0') >= tonumber(meta[3]) then
  local left = call('PTTL', bull(q, 'limiter'))
  if left > 0 then
    laterMs = left
    return answer('nothing')
  end
end
if sharesLost then return answer('nothing') end

-- What is taken first stands last. Those that are not for this consumer are put behind the others, so that it sees these at its next look.
local handed = seldom and call('LRANGE', wait, -perLook.handed, -1) or {}
for i = #handed, 1, -1 do
  local jobId = handed[i]
  local known = call('HMGET', bull(q, jobId), 'timestamp', 'name')
  if not known[1] and not known[2] then
    -- Removed, and left here by its id; what BullMQ writes of one that it takes from here is no job.
    call('LREM', wait, -1, jobId)
    call('DEL', bull(q, jobId))
  elseif not wasInHand(jobId) then
    strays[#strays + 1] = jobId
  elseif not isFetched(jobId) then
    local stand, why = standOf(jobId)
    if stand then
      if i < #handed then
        call('LREM', wait, -1, jobId)
        call('RPUSH', wait, jobId)
      end
      return answer('take', nil, nil, jobId, stand, why)
    end
  end
end
if #strays == 0 and #handed == perLook.handed and call('LLEN', wait) > #handed then
  for i = #handed, 1, -1 do
    if call('LREM', wait, -1, handed[i]) == 1 then call('LPUSH', wait, handed[i]) end
  end
end

-- Delayed jobs whose time has come; BullMQ itself looks at them only when it is asked for a job. Its times are of the producers' clocks.
local isDue = due[2] and tonumber(due[2]) < (redisNow + 1) * 4096
for _, jobId in ipairs(isDue and call('ZRANGEBYSCORE', delayed, 0, (redisNow + 1) * 4096 - 1, 'LIMIT', 0, perLook.delayed) or {}) do
  call('ZREM', delayed, jobId)
  local key = bull(q, jobId)
  if call('EXISTS', key) == 1 then
    local priority = tonumber(call('HGET', key, 'priority') or '0') or 0
    call('ZADD', prioritized, string.format('%.0f', priority * 4294967296 + call('INCR', bull(q, 'pc')) % 4294967296), jobId)
    call('HSET', key, 'delay', 0)
    call('XADD', bull(q, 'events'), 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', jobId, 'prev', 'delayed')
    strays[#strays + 1] = jobId
  end
end
if isDue then due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES') end
if due[2] then laterMs = math.max(1, math.floor(tonumber(due[2]) / 4096) - redisNow) end

-- Asked again after a lost answer: the job of this lease has its place, and somebody has taken it meanwhile.
if ledger.getLease(leaseId) then return answer('nothing') end

if wasAway then
  tidying.view(q, ready.epochOf(q), me)
  return answer('again')
end
local owing = {}
if seldom then
  for _, name in ipairs(call('SRANDMEMBER', R .. ':uncapping', 1)) do views.uncap(name, true) end
  owing = unpaid.due(perLook.unpaid)
  for _, name in ipairs(owing) do unpaid.release(name) end
end
if anew then
  local old = call('ZRANGEBYSCORE', keyOf(q, 'views'), '-inf', call('ZCARD', keyOf(q, 'views')) > views.mostViews and '+inf' or now - viewTtlMs, 'LIMIT', 0, 1)[1]
  if old and old ~= me then views.drop(q, old) end
end
for _, each in ipairs(said) do learn(each[1], each[2], each[3]) end
local merging = (seldom or #said > 0) and merge(perLook.tenants) or (#owing > 0 and #unpaid.due(1) > 0)
if anew then views.showAll(q, me, names) end

-- Their time to wait is over: each is taken to be ended, before anything is begun.
for _, jobId in ipairs(seldom and call('ZRANGEBYSCORE', keyOf(q, 'deadline'), '-inf', now, 'LIMIT', 0, 10) or {}) do
  local shape, name = ready.listedAt(q, jobId)
  call('ZREM', keyOf(q, 'deadline'), jobId)
  if shape then
    local why = fitness.reasons(fitness.refusalsOf(shape))
    ready.unlist(q, jobId)
    if call('ZREM', prioritized, jobId) == 1 then
      choice.give(q, jobId, name)
      return answer('take', jobId, nil, nil, 'overdue', why)
    end
  end
end
-- So are those that nobody can run, unless somebody who can has come since.
for _, shape in ipairs((seldom or #said > 0) and call('ZRANGEBYSCORE', keyOf(q, 'stuck'), '-inf', now - grace, 'LIMIT', 0, 4) or {}) do
  local refusals = fitness.refusalsOf(shape)
  local sinceMs = fitness.nobodySince(shape, refusals, fitness.anyProfile)
  local name = call('ZRANGE', keyOf(q, 's:' .. shape), 0, 0)[1]
  if sinceMs and sinceMs >= grace and name then
    local jobId = choice.nextJob(q, shape, name)
    local why = fitness.reasons(refusals)
    ready.leave(q, shape, name)
    if jobId then
      choice.give(q, jobId, name)
      return answer('take', jobId, nil, nil, 'nobody', why)
    end
    if ready.spent >= ready.patience then return answer('again') end
  else
    call('ZREM', keyOf(q, 'stuck'), shape)
  end
end

-- The caller learns of these first, and asks again: nobody is passed over because of what is not known yet.
local upTo = call('HGET', keyOf(q, 'mapped'), me) or '0'
local shapes = call('ZRANGEBYSCORE', keyOf(q, 'shapes'), '(' .. upTo, '+inf', 'WITHSCORES', 'LIMIT', 0, perLook.unknown)
for i = 1, #shapes, 2 do
  unknown[#unknown + 1] = shapes[i]
  unknown[#unknown + 1] = shapes[i + 1]
  unknown[#unknown + 1] = call('HGET', keyOf(q, 'shape'), shapes[i])
end
if #unknown > 0 then return answer('nothing') end

local open, opensMs = choice.isOpen(q)
if not open then
  laterMs = opensMs or laterMs
  return answer('nothing')
end
for _ = 1, perLook.handedOn do
  if next(free) == nil then return answer((merging or keyed.advanced or ledger.more) and 'again' or 'nothing') end
  local found, more = choice.choose(free, function(queue, view)
    if queue == q and view == me then return true end
    return choice.isOpen(queue) and ledger.idleConsumer(queue, view) ~= nil
  end, function(queue, view, jobId)
    if queue == q and view == me then return holder, leaseId end
    return ledger.idleConsumer(queue, view), 'on/' .. jobId .. '/' .. leaseId
  end)
  -- What came to the front of its line in this call may be of a shape that the caller is still to learn of.
  if not found then return answer((more or merging or keyed.advanced or ledger.more) and 'again' or 'nothing') end
  if found.q == q and found.view == me then return answer('take', found.jobId, found.provider) end
  ledger.wake(found.q, found.holder, found)
  for name in pairs(free) do
    if ledger.room(ledger.read(name), 0, 0) ~= 'fits' then free[name] = nil else free[name] = ledger.read(name) end
  end
end
return answer('again')
