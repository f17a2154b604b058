-- include fitness
-- Whose turn it is: the next job of all queues that has a place among some providers. It costs the same however much waits: per provider one
-- look at its lists, and what has to be put right on the way, `patience` things in one call at most.
--   the first view of each provider -> the first of its classes that fits -> its first tenant -> the first of its jobs in the class
-- A shape that does not fit although its turn has come lets smaller ones pass for `patienceMs`; then what becomes free is kept for it.
local choice = { tenantsPerClass = 4, shapesPerTenant = 8, classesPerProvider = 64, viewsPerProvider = 16, raisedPerLook = 2 }
-- What was read; who changes it forgets it.
choice.opened, choice.metas, choice.policies, choice.looked, choice.heads, choice.skips = {}, {}, {}, {}, {}, {}
-- For how long a queue is skipped before its tenants begin anew.
choice.longSkipMs = 60000
-- Whether jobs of a queue have a time to wait, or smaller ones pass a shape of it; nil where that is to be asked.
choice.timed = {}

-- lazily choice: what is asked where nothing is found, too.
-- Whether there is any of what is seldom there, and is asked for at once: whoever waits for a place, what can't be paid for, jobs that have a time to wait or that others pass, and
-- whatever else of the deployment may be asked with it.
function choice.anySeldom(q, ...)
  local any = call('EXISTS', L .. ':waiter', R .. ':unpaid', keyOf(q, 'deadline'), keyOf(q, 'passed'), ...) > 0
  if not any then ledger.waits, unpaid.any, choice.timed[q] = false, false, false end
  return any
end

function choice.metaOf(q)
  if not choice.metas[q] then choice.metas[q] = call('HMGET', bull(q, 'meta'), 'paused', 'concurrency', 'max') end
  return choice.metas[q]
end

-- Whether something may be given to consumers of a queue: it is not paused, limited or at its concurrency. The second is in how many ms it may be.
function choice.isOpen(q)
  if choice.opened[q] == nil then
    choice.opened[q] = { true }
    local meta = choice.metaOf(q)
    if meta[1] then
      choice.opened[q] = { false }
    elseif meta[2] and call('LLEN', bull(q, 'active')) + call('LLEN', bull(q, 'wait')) >= tonumber(meta[2]) then
      choice.opened[q] = { false }
    elseif meta[3] and tonumber(call('GET', bull(q, 'limiter')) or '0') + call('LLEN', bull(q, 'wait')) >= tonumber(meta[3]) then
      local left = call('PTTL', bull(q, 'limiter'))
      choice.opened[q] = { false, left > 0 and left or nil }
    end
  end
  return choice.opened[q][1], choice.opened[q][2]
end

-- What is first among the providers with room, and what all others come to at the least; and whether any of these is another tenant's. `usable(q, view)` says whether a view
-- may be served.
function choice.first(free, usable)
  local best
  local others, contested = math.huge, false
  local function passed(score)
    others, contested = math.min(others, tonumber(score)), true
  end
  local names, compared, low = {}, {}, {}
  for name in pairs(free) do names[#names + 1] = name end
  -- What a view lists at a provider, until one comes that is behind the best.
  local function lookAt(provider, q, view)
    local listed = call('ZRANGE', viewKey(q, view, 'p:' .. provider), 0, choice.classesPerProvider - 1, 'WITHSCORES')
    for i = 1, #listed, 2 do
      if best and tonumber(listed[i + 1]) > best.score then
        passed(listed[i + 1])
        break
      end
      local found = choice.firstOf(q, view, listed[i], free)
      local id = q .. ' ' .. view .. ' ' .. listed[i]
      local head = choice.heads[id]
      if head and not compared[id] then
        compared[id] = true
        compared[#compared + 1] = id
        if not head.score or head.score > tonumber(listed[i + 1]) then low[#low + 1] = head end
      end
      if found and found ~= best then
        local ahead = choice.before(found, best)
        if best then
          local won, lost = ahead and found or best, ahead and best or found
          others, contested = math.min(others, lost.score), contested or lost.tenant ~= won.tenant or lost.behind < math.huge
          if won.tenant == lost.tenant and won.q == lost.q then won.rival = math.min(won.rival, lost.shape == won.shape and lost.rival or lost.job) end
        end
        if ahead then best = found end
      end
    end
    if #listed == 2 * choice.classesPerProvider then passed(listed[#listed]) end
  end
  for _, provider in ipairs(names) do
    local from, more = 0, true
    while more and free[provider] and from < choice.viewsPerProvider and ready.spent < ready.patience do
      local heads = call('ZRANGE', R .. ':at:' .. provider, from, from + 1, 'WITHSCORES')
      more = #heads == 4
      for k = 1, free[provider] and #heads or 0, 2 do
        local score = tonumber(heads[k + 1])
        if best and score > best.score then
          passed(score)
          more = false
          break
        end
        local q, epoch, view = ledger.parseView(heads[k])
        if epoch ~= ready.epochOf(q) then
          call('ZREM', R .. ':at:' .. provider, heads[k])
          ready.spent = ready.spent + 1
        elseif not usable(q, view) then
          -- One that stands there alone is in nobody's way.
          if from == 0 and #heads == 2 then break end
          views.hide(q, view, provider)
          choice.skip(q)
          ready.spent = ready.spent + 1
        else
          lookAt(provider, q, view)
          from = from + 1
          if from == choice.viewsPerProvider then passed(score) end
        end
        if not free[provider] then break end
      end
    end
  end
  -- What stands too low costs a look at it each time, unless it is the only one.
  local raised = 0
  for _, head in ipairs(#compared > 1 and low or {}) do
    -- What is taken from now rises in any case.
    local taken = best and best.class == head.class and best.view == head.view and best.q == head.q
    if not taken and raised < choice.raisedPerLook then
      views.refresh(head.q, head.view, head.class, true)
      raised = raised + 1
    end
  end
  return best, best and math.min(others, best.behind), best and (contested or best.behind < math.huge)
end

-- Chooses the next job among `free` (name -> provider) and gives it. `receiver(q, view, jobId)` names a consumer and a lease id.
-- Returns { jobId, q, view, provider, holder }, or nil and 'again' when there may be more to find.
function choice.choose(free, usable, receiver)
  while ready.spent < ready.patience do
    choice.looked, choice.heads = {}, {}
    local best, others, contested = choice.first(free, usable)
    if not best then return nil, ready.spent >= ready.patience and 'again' or nil end
    local q, view, name, shape, provider = best.q, best.view, best.tenant, best.shape, best.provider
    local tenants = viewKey(q, view, 'a:' .. best.class)
    local a = accounts.of(name)
    local comes, servedElsewhere = choice.comes(a, name, q, view, best.class, provider)
    local begins = a.fresh == 1 or choice.wasSkipped(q, a.fresh)
    if begins then
      a.vt = accounts.rounded(math.max(a.vt, views.presentOf(q, view, best.class, provider)))
      -- What it gets of something that nobody else waits for says nothing of its turn among others, which may be far ahead.
      a.fresh = contested and now or 1
    end
    local pending, cap = accounts.pending(a, accounts.shareOf(name).weight), accounts.shareOf(name).cap
    local score = accounts.scoreOf(a, q) + pending
    if not free[provider] then
      -- It was kept for a larger one meanwhile.
      ready.spent = ready.spent + 1
    elseif cap and a.held >= cap then
      call('ZREM', tenants, name)
      call('SADD', R .. ':capped:' .. name, views.cappedAt(q, view, best.class))
      views.refresh(q, view, best.class)
      keyed.makeWay(q, shape, name)
      ready.spent = ready.spent + 1
    elseif views.classOf(q, view, shape) ~= best.class then
      views.forsake(q, view, best.class, shape, name)
      views.refresh(q, view, best.class)
      ready.spent = ready.spent + 1
    elseif score > best.score and score >= others then
      call('ZADD', tenants, accounts.text(score), name)
      -- It is asked again when a job of it ends.
      if servedElsewhere then call('SADD', R .. ':capped:' .. name, views.cappedAt(q, view, best.class)) end
      ready.spent = ready.spent + 1
    else
      local vt, needed = a.vt + pending, choice.secretsOf(q, shape)
      local jobId = choice.nextJob(q, shape, name, best.rival, view)
      if jobId then
        local holder, leaseId = receiver(q, view, jobId)
        -- What it gets here besides says nothing of the turns of those who are here.
        if not servedElsewhere then
          call('HSET', R .. ':present', provider, string.format('%.3f', vt))
          if accounts.present then accounts.present[provider] = vt end
          a.home = provider
        end
        if a.fresh ~= 1 then a.fresh = now end
        choice.served(q)
        local at = choice.bind(leaseId, holder, q, jobId, shape, provider)
        free[provider] = ledger.read(provider)
        choice.give(q, jobId, name, needed, shape)
        local scored = call('ZADD', tenants, 'XX', 'CH', accounts.text(accounts.scoreOf(a, q)), name) == 1
        ready.leave(q, shape, name, scored and view)
        return { jobId = jobId, q = q, view = view, provider = at, holder = holder }
      end
      ready.leave(q, shape, name)
      ready.spent = ready.spent + 1
      if not views.isKept(q, view) then views.withdraw(q, view) end
    end
    -- What is taken saves it with what it is charged.
    if begins or comes then accounts.save(name) end
  end
  return nil, 'again'
end

-- lazily choice: what is found.
-- A tenant's turn comes at providers that have another crowd than the one that it had its last turn in. Where it is served still,
-- or waits, by one that has used more, it has its share there, as long as that one is not out. Where it went because one of a class's providers was out, it comes back once that
-- gives turns again.
-- Returns whether its account was changed, and whether it is served there.
function choice.comes(a, name, q, view, class, provider)
  if a.home == provider then return false, false end
  local present = views.presentFor(a, q, view, class, provider)
  local back = not present and a.marks[provider]
  if back then
    present = accounts.presents()[provider]
    if not present or back.vt <= a.vt then return false, false end
  end
  local apart = present and accounts.isApart(a, present)
  if not apart or (back and apart == 'ahead') then return false, false end
  if apart == 'ahead' and (a.held > 0 or a.heaps > call('ZCARD', viewKey(q, view, 't:' .. class .. ':' .. name))) and not ledger.isOut(a.home) then return false, true end
  local providers = { provider }
  for _, each in ipairs(back and {} or views.providersOf(q, view, class)) do
    if each ~= provider and each ~= a.home and not ledger.isOut(each) then providers[#providers + 1] = each end
  end
  accounts.move(a, present, providers, provider)
  -- Other views of the queue have it, with the same shapes, behind what it had come to where it was.
  local shapes = apart == 'ahead' and call('ZRANGE', viewKey(q, view, 't:' .. class .. ':' .. name), 0, choice.shapesPerTenant - 1) or {}
  for _, other in ipairs(shapes[1] and views.of(q) or {}) do
    for _, shape in ipairs(shapes) do
      local known = other ~= view and views.classOf(q, other, shape)
      if known and call('ZADD', viewKey(q, other, 'a:' .. known), 'XX', 'CH', accounts.text(accounts.scoreOf(a, q)), name) == 1 then views.refresh(q, other, known) end
    end
  end
  return true, false
end

-- A queue whose turn it was could not have it: it is paused, or limited, or nobody takes for it. Q:skipped is 'since when, in ms, or 0; when such a time was last over that was long'.
function choice.skippedAt(q)
  if choice.skips[q] == nil then
    local since, over = string.match(call('GET', keyOf(q, 'skipped')) or '0 0', '^(%d+) (%d+)$')
    choice.skips[q] = { since = tonumber(since), over = tonumber(over) }
  end
  return choice.skips[q]
end

function choice.saveSkips(q, since, over)
  choice.skips[q] = { since = since, over = over }
  call('SET', keyOf(q, 'skipped'), string.format('%.0f %.0f', since, over))
end

function choice.skip(q)
  local known = choice.skippedAt(q)
  if known.since == 0 then choice.saveSkips(q, now, known.over) end
end

-- Whether it was, for long, since a tenant had its last turn.
function choice.wasSkipped(q, turnMs)
  local known = choice.skippedAt(q)
  if known.since > 0 and now - known.since > choice.longSkipMs then choice.saveSkips(q, 0, now) end
  return turnMs < choice.skips[q].over
end

function choice.served(q)
  local known = choice.skippedAt(q)
  if known.since > 0 then choice.saveSkips(q, 0, known.over) end
end

function choice.policyOf(q, view)
  local id = q .. ' ' .. view
  choice.policies[id] = choice.policies[id] or call('HGET', keyOf(q, 'policy'), view) or 'most-free'
  return choice.policies[id]
end

-- The providers of a class, or of a shape in it, in groups, the best first.
function choice.groupsOf(q, view, class, shape)
  if shape and choice.policyOf(q, view) == 'own' then
    local order = call('HGET', viewKey(q, view, 'order'), shape)
    if order then return { cjson.decode(order) } end
  end
  return views.classAt(q, view, class)[1]
end

-- The first provider that has room for so much, by the view's policy; and those where only that is too large for what is left of a pool.
function choice.placeFor(q, view, groups, milliCpu, memoryMiB, free)
  local policy = choice.policyOf(q, view)
  local inOrder = policy == 'given' or policy == 'own'
  local unfit
  for _, group in ipairs(groups) do
    local best
    for _, name in ipairs(group) do
      local p = free[name]
      local answer = p and ledger.room(p, milliCpu, memoryMiB)
      if answer == 'unfit' then
        unfit = unfit or {}
        unfit[#unfit + 1] = name
      elseif answer == 'fits' then
        local start, spare = policy == 'fastest' and (p.p50 or 0) or 0, inOrder and 0 or p.effective - p.used
        if not best or start < best.start or (start == best.start and spare > best.spare) then best = { name = name, start = start, spare = spare } end
      end
    end
    if best then return best.name, unfit end
  end
  return nil, unfit
end

-- It is this shape's turn, and it does not fit: smaller ones pass it, for so long.
function choice.pass(q, shape, unfit, free)
  local passed = keyOf(q, 'passed')
  choice.timed[q] = true
  call('HSETNX', passed, shape, now)
  if now - tonumber(call('HGET', passed, shape)) > ledger.patienceMs then
    for _, name in ipairs(unfit) do free[name] = nil end
  end
end

-- What a class has for these providers: { q, view, class, tenant, score, shape, job, provider, behind, rival }, where `job` is BullMQ's score of the first one,
-- `behind` what the tenant behind it comes to at the least, and `rival` the same of the tenant's next job that is not of the shape.
function choice.firstOf(q, view, class, free)
  local id = q .. ' ' .. view .. ' ' .. class
  if choice.looked[id] ~= nil then return choice.looked[id] end
  choice.looked[id] = false
  local milliCpu, memoryMiB = views.leastOf(views.classAt(q, view, class)[2])
  local fits, tooLarge = choice.placeFor(q, view, views.classAt(q, view, class)[1], milliCpu, memoryMiB, free)
  if not fits and not tooLarge then return false end
  -- Of what is too large as a whole only the first is looked at.
  local most = fits and choice.tenantsPerClass or 1
  local tenants = call('ZRANGE', viewKey(q, view, 'a:' .. class), 0, most - 1, 'WITHSCORES')
  choice.heads[id] = { q = q, view = view, class = class, score = tonumber(tenants[2]) }
  for k = 1, #tenants, 2 do
    local name = tenants[k]
    local shapes = call('ZRANGE', viewKey(q, view, 't:' .. class .. ':' .. name), 0, fits and choice.shapesPerTenant - 1 or 0, 'WITHSCORES')
    for i = 1, #shapes, 2 do
      milliCpu, memoryMiB = ready.demandOf(q, shapes[i])
      local provider, unfit = choice.placeFor(q, view, choice.groupsOf(q, view, class, shapes[i]), milliCpu, memoryMiB, free)
      if unfit then choice.pass(q, shapes[i], unfit, free) end
      if provider and free[provider] then
        choice.looked[id] = { q = q, view = view, class = class, tenant = name, score = tonumber(tenants[k + 1]), shape = shapes[i], job = tonumber(shapes[i + 1]), provider = provider,
          behind = tonumber(tenants[k + 3] or (k + 1 == 2 * most and tenants[k + 1]) or math.huge),
          rival = tonumber(shapes[i + 3] or (i + 1 == 2 * choice.shapesPerTenant and shapes[i + 1]) or math.huge) }
        return choice.looked[id]
      end
    end
  end
  return false
end

-- The first by its score; of tenants that have the same, the one that stands first in every class; of a tenant's jobs by priority and arrival,
-- whatever they ask for.
function choice.before(x, y)
  if not y or x.score ~= y.score then return not y or x.score < y.score end
  if x.tenant ~= y.tenant then return x.tenant < y.tenant end
  return x.job < y.job
end

-- The next job of a shape and tenant that BullMQ still holds; those that it does not are dropped. Nil when there is none, too many were dropped, or what is
-- behind them is not before the tenant's `rival`, or may not be before one that has just come to the front of a line. `view`: of who would take it; left out for one that is to
-- be ended, which needs no key.
function choice.nextJob(q, shape, name, rival, view)
  local jobs = ready.jobsKey(q, shape, name)
  local found
  local dropped = 0
  while not found and ready.spent < ready.patience do
    local jobId, score = unpack(call('ZPOPMIN', jobs))
    if not jobId then break end
    if rival and dropped > 0 and (keyed.advanced or tonumber(score) > rival) then
      call('ZADD', jobs, score, jobId)
      -- The next one is looked for anew, which is as much as a thing that is put right.
      ready.spent = ready.spent + 1
      break
    end
    dropped = dropped + 1
    local at, whose = ready.listedAt(q, jobId)
    local here = at == shape and whose == name
    local key = here and keyed.forget(q, jobId)
    local info = key and keyed.infoOf(q, jobId)
    local over = info and keyed.isOver(q, key, info)
    if not here then
      -- It is gone, and another may have come under its id, which stands elsewhere or is still to be listed.
      if not at then keyed.gone(q, jobId) end
      ready.spent = ready.spent + 1
    elseif over then
      keyed.supersede(q, jobId, over)
      ready.spent = ready.spent + 1
    elseif view and info and keyed.roomIn(q, key, info) <= 0 then
      keyed.isHere(view)
      keyed.park(q, key, keyed.groupOf(info), jobId, score)
      -- With what follows it is as much as four other things.
      ready.spent = ready.spent + 4
    else
      call('HDEL', bull(q, jobId), 'sy')
      if call('ZREM', bull(q, 'prioritized'), jobId) == 1 then
        found = jobId
      else
        ready.moved(q, jobId)
        ready.spent = ready.spent + 1
      end
      if found and key and view then keyed.enter(q, jobId, key) end
    end
    if key then keyed.fill(q, key) end
  end
  if dropped > 0 then ready.count(q, 0 - dropped) end
  return found
end

-- The secrets that a shape's jobs need, as JSON.
function choice.secretsOf(q, shape)
  local json = call('HGET', keyOf(q, 'shape'), shape) or ''
  if not string.find(json, '"secrets"', 1, true) then return '[]' end
  local needed = cjson.decode(json).secrets
  return (type(needed) ~= 'table' or #needed == 0) and '[]' or cjson.encode(needed)
end

-- Puts a job where BullMQ takes the next one from, and charges its tenant. `shape`: it goes before smaller ones no more.
function choice.give(q, jobId, name, needed, shape)
  local timed = choice.timed[q]
  if timed == nil then timed = call('EXISTS', keyOf(q, 'deadline'), keyOf(q, 'passed')) > 0 end
  if timed then
    call('ZREM', keyOf(q, 'deadline'), jobId)
    if shape then call('HDEL', keyOf(q, 'passed'), shape) end
  end
  call('RPUSH', bull(q, 'wait'), jobId)
  choice.opened[q] = nil
  ready.takeUp(q, jobId, name, needed)
end

-- What is chosen has its place bound to it. A job may have one already.
function choice.bind(leaseId, holder, q, jobId, shape, provider)
  local id = ids.run(q, jobId)
  local known = call('HGET', L .. ':jobs', id)
  local before = known and ledger.getLease(known)
  if before then return before.provider end
  local milliCpu, memoryMiB = ready.demandOf(q, shape)
  ledger.take(leaseId, provider, holder, milliCpu, memoryMiB, 0, { id, bull(q, jobId) })
  return provider
end
