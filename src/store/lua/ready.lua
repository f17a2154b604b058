-- include ledger
-- The index of a deployment's waiting jobs: what BullMQ's own order can't say. Its queues share it, so that they share the places. Nothing
-- that a script does here grows with what waits. R is KEYS[2]; Q is R:q:<queue>:<epoch>, of which a queue has one at a time:
--   R:at:<provider>        sorted set: view -> score; a view is '<queue>:<epoch>:<view id>': what consumers that answer alike can run of a queue
--   R:tenant               hash: tenant -> its account (see accountOf); kept while it has jobs waiting or in hand, or is in debt
--   R:debt                 sorted set: tenant that has neither -> when it left, in ms
--   R:held                 hash: job id among all queues -> 'since accounted used length queue:', then the secrets that it needs as JSON of that length, then its tenant, of
--                          jobs in consumers' hands; ms and s
--   R:begun                hash: job id among all queues -> queue, of jobs that have a run and are in nobody's hands, as those that wait for a budget. What has gone on is taken
--                          out by the next look (ready-reconcile.lua)
--   R:capped:<tenant>      set: '<queue>:<epoch>:<class>:<view id>' where the tenant waits for its cap; R:uncapping: tenants for whom some are to be put back
--   R:unpaid:<tenant>      set: '<queue>:<epoch>:<shape>:<view id>' that wait for the tenant's budget: no view shows them. R:unpaid hash: '<queue>:<epoch>:<shape>:<tenant>'
--                          -> why, for people; R:paying:day, R:paying:version sorted sets: tenant -> ms by Redis' clock, and version of the budgets, from which on they are looked at again
--   R:present              hash: provider -> virtual time of the latest turn there
--   R:shares               hash: tenant -> JSON { weight, cap }, as configured; '*' for all others; '' -> since when, in ms
--   R:set                  hash: tenant -> JSON, what operators said of it: see operate.lua; R:lapses: sorted set: tenant -> ms when a part of that is over
--   R:listed, R:epoch      hashes: queue -> how many jobs are listed; its epoch
--   R:garbage              list: '<queue>:<epoch>', or with ':<view id>', that are over, to be taken apart bit by bit
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
-- Everything that the same providers can run is one class, so what waits for a full one costs nothing, and is there when it has room.
-- Where a job stands is the field `sy` of BullMQ's own hash of it, '<epoch> <shape> <tenant>', which goes when the job does.
--
-- Tenants take turns by virtual time: seconds of sandbox used, divided by the tenant's weight. It is one account for all queues; a
-- tenant's queues take turns among themselves by what each has used. A job is charged its tenant's mean when it is taken, and the difference
-- as time goes by and when it ends. Who comes back begins at the present, or where its debt ends; that halves every ten minutes.
-- Invariant: accounts only ever go up while something of theirs is listed (a refund is credit on later charges), so that a score in a heap is a
-- lower bound. One that is too low when it comes up is put right, and the next is looked at; a call does so at most `patience` times.
local call = redis.call
local ready = {}
local base = string.gsub(L, 'ledger$', '')
local ownQueue = string.match(I, ':([^:]*)$')
local runPrefix = base .. ':run:'
ready.patience = 32
ready.roundMs = 1000
ready.spent = 0
ready.mostClasses, ready.mostViews, ready.mostDebtors = 200, 16, 10000
ready.halfLifeMs, ready.forgetMs, ready.mostDebt = 600000, 7200000, 86400
-- What passes between two accounts of a job that is in hand; more is a time in which nobody had it, or a clock that was set.
ready.longestStepMs = 120000

-- What belongs to keys of concurrency: concurrency.lua, which every script includes that includes this.
local keyed = {}

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

ready.epochs = {}
function ready.epochOf(q)
  if not ready.epochs[q] then ready.epochs[q] = call('HGET', R .. ':epoch', q) or '1' end
  return ready.epochs[q]
end
local function keyOf(q, rest, epoch) return R .. ':q:' .. q .. ':' .. (epoch or ready.epochOf(q)) .. ':' .. rest end

-- Accounts: 'vt credit mean held heaps base leftAt fresh', then for each queue ':name:used credit'. `heaps`: in how many Q:s it stands. `base`:
-- where a queue of it begins. `fresh`: it is still to begin at the present of the provider that it gets a place at.
ready.accounts = {}
function ready.parseAccount(text)
  local a = { vt = 0, credit = 0, mean = 1, held = 0, heaps = 0, base = 0, leftAt = 0, fresh = 1, queues = {}, owed = {} }
  if text then
    local head, rest = string.match(text, '^([^:]*)(.*)$')
    local vt, credit, mean, held, heaps, from, leftAt, fresh = string.match(head, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    a.vt, a.credit, a.mean, a.held, a.heaps = tonumber(vt), tonumber(credit), tonumber(mean), tonumber(held), tonumber(heaps)
    a.base, a.leftAt, a.fresh = tonumber(from), tonumber(leftAt), tonumber(fresh)
    for q, used, owed in string.gmatch(rest, ':([^:]*):(%S+) ([^:]*)') do a.queues[q], a.owed[q] = tonumber(used), tonumber(owed) end
  end
  return a
end
function ready.accountOf(name)
  local a = ready.accounts[name]
  if a then return a end
  a = ready.parseAccount(call('HGET', R .. ':tenant', name))
  ready.accounts[name] = a
  return a
end
-- Reads several at once.
function ready.readAccounts(names)
  local texts = names[1] and call('HMGET', R .. ':tenant', unpack(names)) or {}
  for i, name in ipairs(names) do ready.accounts[name] = ready.accounts[name] or ready.parseAccount(texts[i]) end
end

function ready.rounded(x) return math.floor(x * 1000 + 0.5) / 1000 end

-- Queues of one tenant are told apart far behind the point.
function ready.scoreOf(a, q) return a.vt + (a.queues[q] or 0) * 1e-7 end
function ready.text(score) return string.format('%.17g', score) end

-- A tenant's share { weight, cap, paused }: as configured, or as an operator said. One that is paused stands as at its cap.
ready.shares, ready.equalShare = {}, { weight = 1 }
function ready.shareOf(name)
  if not ready.shares[name] then
    -- Most often nothing is said of anybody.
    if ready.anyShares == nil then ready.anyShares = call('EXISTS', R .. ':shares', R .. ':set') > 0 end
    if not ready.anyShares then return ready.equalShare end
    local own, others = unpack(call('HMGET', R .. ':shares', name, '*'))
    local json = (name ~= '' and own) or (name ~= '*' and others)
    local share = json and cjson.decode(json) or { weight = 1 }
    local said = call('HGET', R .. ':set', name)
    for what, each in pairs(said and cjson.decode(said) or {}) do
      if each.untilMs and each.untilMs <= now then
        -- It is over; somebody takes it away soon.
      elseif what == 'share' then
        share.weight, share.cap = each.weight, each.cap or share.cap
      elseif what == 'pause' then
        share.paused = true
      end
    end
    if share.paused then share.cap = 0 end
    ready.shares[name] = share
  end
  return ready.shares[name]
end

-- The least virtual time that is present anywhere; who changes one forgets it.
function ready.leastPresent()
  if ready.least then return ready.least end
  for _, vt in ipairs(call('HVALS', R .. ':present')) do
    if not ready.least or tonumber(vt) < ready.least then ready.least = tonumber(vt) end
  end
  ready.least = ready.least or 0
  return ready.least
end

function ready.saveAccount(name) ready.saveAccounts({ name }) end
function ready.saveAccounts(names)
  local texts, left, back = {}, {}, {}
  for _, name in ipairs(names) do
    local a = ready.accountOf(name)
    if a.held <= 0 and a.heaps <= 0 then
      a.held, a.heaps = 0, 0
      if a.leftAt == 0 then a.leftAt = now end
      left[#left + 1] = a.leftAt
      left[#left + 1] = name
    elseif a.leftAt ~= 0 then
      a.leftAt = 0
      back[#back + 1] = name
    end
    local parts = { string.format('%.3f %.3f %.3f %d %d %.3f %.0f %d', a.vt, a.credit, a.mean, a.held, a.heaps, a.base, a.leftAt, a.fresh) }
    for q, used in pairs(a.queues) do parts[#parts + 1] = string.format(':%s:%.3f %.3f', q, used, a.owed[q] or 0) end
    texts[#texts + 1] = name
    texts[#texts + 1] = table.concat(parts)
  end
  if #left > 0 then call('ZADD', R .. ':debt', unpack(left)) end
  if #back > 0 then call('ZREM', R .. ':debt', unpack(back)) end
  if #texts > 0 then call('HSET', R .. ':tenant', unpack(texts)) end
end

-- Whoever has nothing waiting or in hand is forgotten once it owes nothing, or after long, or as the oldest of too many: two a call, where one is added.
function ready.forgetDebtors()
  ready.flush()
  local debt = R .. ':debt'
  local oldest = call('ZRANGE', debt, 0, 1)
  local tooMany = oldest[1] and call('ZCARD', debt) > ready.mostDebtors
  for _, name in ipairs(oldest) do
    local a = ready.accountOf(name)
    if tooMany or now - a.leftAt > ready.forgetMs or (now - a.leftAt > ready.halfLifeMs and a.vt <= ready.leastPresent()) then
      call('ZREM', debt, name)
      call('HDEL', R .. ':tenant', name)
      ready.accounts[name] = nil
    end
  end
end

-- A tenant that had nothing waiting or in hand comes back. Nothing of it is listed, so that its credit can be taken off at once.
function ready.comeBack(a, name)
  local present = ready.leastPresent()
  a.vt, a.credit = ready.rounded(a.vt - a.credit / ready.shareOf(name).weight), 0
  if a.leftAt ~= 0 and a.vt > present then
    a.vt = ready.rounded(present + math.min(a.vt - present, ready.mostDebt) * 0.5 ^ (math.max(0, now - a.leftAt) / ready.halfLifeMs))
  end
  a.vt = math.max(a.vt, present)
  a.fresh = 1
end

-- Charges a tenant, and of its queues this one; credit of either pays first.
function ready.charge(a, q, weight, seconds)
  local paid = math.min(a.credit, seconds)
  a.credit = ready.rounded(a.credit - paid)
  a.vt = ready.rounded(a.vt + (seconds - paid) / weight)
  paid = math.min(a.owed[q] or 0, seconds)
  a.owed[q] = ready.rounded((a.owed[q] or 0) - paid)
  a.queues[q] = ready.rounded((a.queues[q] or a.base) + seconds - paid)
end

-- The ids of a queue's views.
ready.viewsOf = {}
function ready.views(q)
  if not ready.viewsOf[q] then ready.viewsOf[q] = call('ZREVRANGE', keyOf(q, 'views'), 0, ready.mostViews - 1) end
  return ready.viewsOf[q]
end
local function viewKey(q, view, rest, epoch) return keyOf(q, 'v:' .. view .. ':' .. rest, epoch) end

-- What `list` has done and `flush` writes.
ready.made, ready.grown, ready.unsaved = 0, {}, {}
-- What was read of shapes and classes; who changes it forgets it.
ready.demands, ready.fits, ready.classes = {}, {}, {}
function ready.forgetShape(q, shape)
  ready.demands[q .. ' ' .. shape], ready.entered[q .. ' ' .. shape] = nil, nil
  for _, view in ipairs(ready.views(q)) do ready.fits[q .. ' ' .. shape .. ' ' .. view] = nil end
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

-- The class of a shape by the word of a view's consumers; false as long as they have not said so, or when they can't run it.
function ready.classOf(q, view, shape)
  local id = q .. ' ' .. shape .. ' ' .. view
  if ready.fits[id] == nil then ready.fits[id] = call('HGET', viewKey(q, view, 'fit'), shape) end
  return ready.fits[id]
end

-- { groups, bucket }: the providers of a class.
function ready.classAt(q, view, class)
  local id = q .. ' ' .. class .. ' ' .. view
  if not ready.classes[id] then ready.classes[id] = cjson.decode(call('HGET', viewKey(q, view, 'class'), class) or '[[],"-,-"]') end
  return ready.classes[id]
end

-- A bucket holds demands between two powers of two; what it is at least is told by its name. '-,-' holds any.
function ready.bucketOf(milliCpu, memoryMiB)
  local function power(x) return x < 1 and '-' or tostring(math.floor(math.log(x) / math.log(2) + 1e-9)) end
  return power(milliCpu) .. ',' .. power(memoryMiB)
end
function ready.leastOf(bucket)
  local cpu, memory = string.match(bucket, '^([^,]*),(.*)$')
  local function least(power) return tonumber(power) and 2 ^ tonumber(power) or 0 end
  return least(cpu), least(memory)
end

-- Enters the class of what these providers can run. Where none has a pool what it takes is all the same; beyond a number the order is left out.
function ready.enterClass(q, view, groups, milliCpu, memoryMiB)
  local pooled = false
  for _, group in ipairs(groups) do
    for _, name in ipairs(group) do
      local p = ledger.read(name)
      if p.cpuLimit or p.memoryLimit then pooled = true end
    end
  end
  local json = cjson.encode({ groups, pooled and ready.bucketOf(milliCpu, memoryMiB) or '-,-' })
  local class = string.sub(redis.sha1hex(json), 1, 12)
  local known = viewKey(q, view, 'class')
  if call('HEXISTS', known, class) == 0 and call('HLEN', known) >= ready.mostClasses then
    local all = {}
    for _, group in ipairs(groups) do
      for _, name in ipairs(group) do all[#all + 1] = name end
    end
    table.sort(all)
    json = cjson.encode({ { all }, '-,-' })
    class = string.sub(redis.sha1hex(json), 1, 12)
  end
  call('HSETNX', known, class, json)
  return class
end

-- The first score of a view to the deployment's list of a provider.
function ready.show(q, view, provider)
  local least = call('ZRANGE', viewKey(q, view, 'p:' .. provider), 0, 0, 'WITHSCORES')[2]
  local at, name = R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view
  if least then call('ZADD', at, least, name) else call('ZREM', at, name) end
end

-- Takes a view out of a provider's list: nobody takes for it now. Whoever looks for it next puts it back; see `looksAnew`.
function ready.hide(q, view, provider)
  call('ZREM', R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view)
  local seenMs = tonumber(call('ZSCORE', keyOf(q, 'views'), view) or nil)
  if seenMs and seenMs > now - ready.roundMs then call('ZADD', keyOf(q, 'views'), now - ready.roundMs, view) end
end

-- Whether a view's look is to do what need not be done in each: once a second, or after somebody has hidden it; and whether what it had before it was
-- away is to be gone first.
function ready.looksAnew(q, view)
  local seenMs = tonumber(call('ZSCORE', keyOf(q, 'views'), view) or nil)
  if seenMs and seenMs <= now and seenMs > now - ready.roundMs then return false end
  if not seenMs and call('LPOS', R .. ':garbage', ready.garbageOf(q, view)) then return true, true end
  if seenMs ~= now - ready.roundMs then call('ZADD', keyOf(q, 'views'), now - ready.roundMs, view) end
  if not seenMs then ready.viewsOf[q] = nil end
  return true, false
end

-- It has been done, of these providers.
function ready.showAll(q, view, providers)
  for _, provider in ipairs(providers) do ready.show(q, view, provider) end
  call('ZADD', keyOf(q, 'views'), now, view)
end

-- The first score of a class's tenants to the lists of its providers, and theirs to the deployment's. What stands there may be lower, until another class
-- is compared with it and it is to be there `exactly`: most often there is one class, and each job that is taken would cost three commands for each provider.
function ready.refresh(q, view, class, exactly)
  local first = call('ZRANGE', viewKey(q, view, 'a:' .. class), 0, 0, 'WITHSCORES')[2]
  local groups = ready.classAt(q, view, class)[1]
  -- All providers of a class have the same.
  local listed = groups[1] and groups[1][1] and call('ZSCORE', viewKey(q, view, 'p:' .. groups[1][1]), class)
  if not first and not listed then return end
  if first and listed and (tonumber(listed) == tonumber(first) or (not exactly and tonumber(listed) < tonumber(first))) then return end
  for _, group in ipairs(groups) do
    for _, provider in ipairs(group) do
      local key = viewKey(q, view, 'p:' .. provider)
      if first then call('ZADD', key, first, class) else call('ZREM', key, class) end
      ready.show(q, view, provider)
    end
  end
end

-- Not a shape, but what waits for a key.
function keyed.isLine(shape) return string.sub(shape, 1, 1) == '!' end
function ready.jobsKey(q, shape, name) return keyOf(q, 'j:' .. shape .. ':' .. name) end
function ready.cappedAt(q, view, class) return q .. ':' .. ready.epochOf(q) .. ':' .. class .. ':' .. view end

-- Takes a shape of a tenant out of a class. Returns whether it had others there.
function ready.forsake(q, view, class, shape, name)
  local shapes = viewKey(q, view, 't:' .. class .. ':' .. name)
  call('ZREM', shapes, shape)
  if call('EXISTS', shapes) == 1 then return true end
  call('ZREM', viewKey(q, view, 'a:' .. class), name)
  call('SREM', R .. ':capped:' .. name, ready.cappedAt(q, view, class))
  return false
end

-- What a tenant's budget can't pay for, as far as is known: out of the views, so that nothing looks at it.
local unpaid = {}
function unpaid.key(name) return R .. ':unpaid:' .. name end
function unpaid.holds(q, view, shape, name)
  if unpaid.any == nil then unpaid.any = call('EXISTS', R .. ':unpaid') == 1 end
  return unpaid.any and call('SISMEMBER', unpaid.key(name), q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. view) == 1
end

-- The score of a tenant's first job of a shape; nil when there is none.
function ready.headOf(q, shape, name) return call('ZRANGE', ready.jobsKey(q, shape, name), 0, 0, 'WITHSCORES')[2] end

-- Puts a tenant's jobs of a shape into a view, as they are now, `first` being their head; takes them out when there are none. `later` gathers the classes to
-- be refreshed.
function ready.place(q, view, shape, name, first, later)
  local class = ready.classOf(q, view, shape)
  if not class then return end
  local shapes, tenants = viewKey(q, view, 't:' .. class .. ':' .. name), viewKey(q, view, 'a:' .. class)
  if first and not unpaid.holds(q, view, shape, name) then
    call('ZADD', shapes, first, shape)
    if call('SISMEMBER', R .. ':capped:' .. name, ready.cappedAt(q, view, class)) == 1 then return end
    if call('ZADD', tenants, 'NX', ready.text(ready.scoreOf(ready.accountOf(name), q)), name) == 0 then return end
  elseif ready.forsake(q, view, class, shape, name) then
    return
  end
  if not later then return ready.refresh(q, view, class) end
  later[view] = later[view] or {}
  later[view][class] = true
end
-- As `place`, in all views. Returns the head, which the caller may know.
function ready.placeAll(q, shape, name, later, first)
  first = first or ready.headOf(q, shape, name)
  for _, view in ipairs(ready.views(q)) do ready.place(q, view, shape, name, first, later) end
  return first
end
function ready.refreshAll(q, later)
  for view, touched in pairs(later) do
    for class in pairs(touched) do ready.refresh(q, view, class) end
  end
end

-- Holds what a view would give of a shape's jobs until the tenant's budget may have more: on another day, by another version of the budgets, or because something
-- that was reserved came free (costs.free).
function unpaid.hold(q, view, shape, name, why, untilMs, version)
  call('SADD', unpaid.key(name), q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. view)
  call('HSET', R .. ':unpaid', q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. name, why)
  -- What is due already stays due: others of its shapes were held before that.
  for part, score in pairs({ day = untilMs, version = version }) do
    local known = call('ZSCORE', R .. ':paying:' .. part, name)
    if not known or tonumber(known) > tonumber(score) then call('ZADD', R .. ':paying:' .. part, score, name) end
  end
  unpaid.any = true
  ready.placeAll(q, shape, name)
end

-- Puts a tenant's jobs back where they would stand, as far as this call goes: the first of them asks again.
function unpaid.release(name)
  local some = call('SPOP', unpaid.key(name), ready.patience)
  for _, where in ipairs(some) do
    local q, epoch, shape = string.match(where, '^([^:]*):(%d+):(%x+):')
    call('HDEL', R .. ':unpaid', q .. ':' .. epoch .. ':' .. shape .. ':' .. name)
    if epoch == ready.epochOf(q) then ready.placeAll(q, shape, name) end
  end
  if call('EXISTS', unpaid.key(name)) == 1 then return end
  for _, part in ipairs({ 'day', 'version' }) do call('ZREM', R .. ':paying:' .. part, name) end
end

-- The tenants, so many at most, of whom it is time to look again.
function unpaid.due(most)
  if call('EXISTS', R .. ':paying:day') == 0 then return {} end
  local version = call('HGET', string.gsub(L, 'ledger$', ':costs') .. ':caps', 'version') or '0'
  local found = call('ZRANGEBYSCORE', R .. ':paying:version', '-inf', '(' .. version, 'LIMIT', 0, most)
  if #found > 0 then return found end
  return call('ZRANGEBYSCORE', R .. ':paying:day', '-inf', redisNow, 'LIMIT', 0, most)
end

-- After jobs of a tenant were taken out of a shape: the views follow, and what is empty goes.
function ready.leave(q, shape, name)
  if not keyed.isLine(shape) then
    if ready.placeAll(q, shape, name) then return end
  else
    keyed.stand(q, string.sub(shape, 2), name)
    if call('EXISTS', ready.jobsKey(q, shape, name)) == 1 then return end
  end
  if call('ZREM', keyOf(q, 's:' .. shape), name) == 1 and not keyed.isLine(shape) then
    local a = ready.accountOf(name)
    a.heaps = a.heaps - 1
    ready.saveAccount(name)
  end
  if call('EXISTS', keyOf(q, 's:' .. shape)) == 1 then return end
  call('HDEL', keyOf(q, 'passed'), shape)
  -- What somebody can run is kept for a while: most often the next job is of a shape that was there before, and nobody needs to be asked about it again.
  local known = false
  for _, view in ipairs(keyed.isLine(shape) and {} or ready.views(q)) do known = known or ready.classOf(q, view, shape) end
  if not known then return ready.dropShape(q, shape) end
  local empty = keyOf(q, 'empty')
  call('ZADD', empty, now, shape)
  local oldest = call('ZRANGE', empty, 0, 0, 'WITHSCORES')
  if oldest[1] ~= shape and (now - tonumber(oldest[2]) > ready.emptyMs or call('ZCARD', empty) > ready.mostEmpty) then ready.dropShape(q, oldest[1]) end
end

-- Forgets a shape of which nothing waits.
ready.emptyMs, ready.mostEmpty = 600000, 64
function ready.dropShape(q, shape)
  for _, view in ipairs(ready.views(q)) do
    call('HDEL', viewKey(q, view, 'fit'), shape)
    call('HDEL', viewKey(q, view, 'order'), shape)
    call('ZREM', viewKey(q, view, 'merge'), shape)
  end
  for _, part in ipairs({ 'demand', 'shape' }) do call('HDEL', keyOf(q, part), shape) end
  for _, part in ipairs({ 'shapes', 'stuck', 'empty' }) do call('ZREM', keyOf(q, part), shape) end
  call('HDEL', R .. ':q:' .. q .. ':unfit', shape)
  ready.forgetShape(q, shape)
end

-- Where a job is listed: shape and tenant; nil when it is not.
function ready.parseListed(q, text)
  local epoch, shape, name = string.match(text or '', '^(%d+) (%S+) (.*)$')
  if epoch == ready.epochOf(q) then return shape, name end
  return nil
end
function ready.listedAt(q, jobId) return ready.parseListed(q, call('HGET', bull(q, jobId), 'sy')) end

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
  local a = ready.accountOf(name)
  if a.heaps <= 0 and a.held <= 0 then ready.comeBack(a, name) end
  a.queues[q] = math.max(a.queues[q] or 0, a.base)
  a.heaps = a.heaps + 1
  ready.unsaved[name] = true
end
function ready.flush()
  for q, count in pairs(ready.grown) do call('HINCRBY', R .. ':listed', q, count) end
  local names = {}
  for name in pairs(ready.unsaved) do names[#names + 1] = name end
  ready.saveAccounts(names)
  ready.grown, ready.unsaved = {}, {}
end
function ready.placeDirty(q, dirty)
  ready.flush()
  local later = {}
  for shape, names in pairs(dirty) do
    for name, first in pairs(names) do ready.placeAll(q, shape, name, later, first ~= true and first or nil) end
  end
  ready.refreshAll(q, later)
end

-- Enters a shape, so that jobs can be listed under it.
ready.entered = {}
function ready.enterShape(q, shape, json, milliCpu, memoryMiB)
  if ready.entered[q .. ' ' .. shape] then return end
  if call('HSETNX', keyOf(q, 'shape'), shape, json) == 1 then
    call('HSET', keyOf(q, 'demand'), shape, milliCpu .. ' ' .. memoryMiB)
    call('ZADD', keyOf(q, 'shapes'), call('INCR', R .. ':numbers'), shape)
    ready.forgetShape(q, shape)
  end
  ready.entered[q .. ' ' .. shape] = true
end

-- Takes a job out of the index, wherever it stands in it; with `for now` it still waits. Of one that is not listed, what is said there instead is returned: '-' for one
-- that is to be taken as it is.
function ready.unlist(q, jobId, forNow)
  local text = call('HGET', bull(q, jobId), 'sy')
  local shape, name = ready.parseListed(q, text)
  if not shape then return text end
  call('HDEL', bull(q, jobId), 'sy')
  if not forNow then call('ZREM', keyOf(q, 'deadline'), jobId) end
  if call('ZREM', ready.jobsKey(q, shape, name), jobId) == 1 then call('HINCRBY', R .. ':listed', q, -1) end
  ready.leave(q, shape, name)
  if not forNow then keyed.gone(q, jobId) end
end

-- Begins the index of a queue anew: what was listed is gone from BullMQ, every one of it.
function ready.newEpoch(q)
  local old, views = ready.epochOf(q), {}
  for i, view in ipairs(ready.views(q)) do views[i] = q .. ':' .. old .. ':' .. view end
  for _, provider in ipairs(views[1] and call('SMEMBERS', L) or {}) do call('ZREM', R .. ':at:' .. provider, unpack(views)) end
  call('RPUSH', R .. ':garbage', q .. ':' .. old)
  ready.epochs[q] = string.format('%.0f', tonumber(old) + 1)
  ready.viewsOf[q] = nil
  call('HSET', R .. ':epoch', q, ready.epochs[q])
  call('HDEL', R .. ':listed', q)
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
  if before then ready.settleAccount(id, before) end
  local a = ready.accountOf(name)
  local whole = a.mean
  a.base = math.max(a.base, a.queues[q] or 0)
  ready.charge(a, q, ready.shareOf(name).weight, whole)
  a.held = a.held + 1
  ready.hold(id, { since = now, accounted = whole, used = 0, q = q, tenant = name, secrets = needed or '[]' })
  ready.saveAccount(name)
end

-- A job that has begun is in nobody's hands, and waits to be gone on with.
function ready.keepBegun(q, jobId) call('HSET', R .. ':begun', ids.run(q, jobId), q) end

-- Accounts for the time of a job in hand until now, as far as it is not accounted for.
function ready.accrue(h)
  h.used = h.used + math.min(math.max(now - h.since, 0), ready.longestStepMs) / 1000
  h.since = now
  if h.used > h.accounted then
    ready.charge(ready.accountOf(h.tenant), h.q, ready.shareOf(h.tenant).weight, h.used - h.accounted)
    h.accounted = h.used
  end
end

-- Puts a tenant back where it waited for its cap, as far as this call goes. Not one that is paused: nothing of it is looked at until it is resumed.
-- `asked`: it is on the list of those who are to be put back.
function ready.uncap(name, asked)
  local capped = R .. ':capped:' .. name
  if ready.shareOf(name).paused then
    call('SREM', R .. ':uncapping', name)
    return
  end
  local some = call('SPOP', capped, ready.patience)
  for _, where in ipairs(some) do
    local q, epoch, class, view = string.match(where, '^([^:]*):(%d+):(%x+):(.*)$')
    if not call('ZSCORE', keyOf(q, 'views', epoch), view) then
      call('UNLINK', viewKey(q, view, 't:' .. class .. ':' .. name, epoch))
    elseif epoch == ready.epochOf(q) and call('EXISTS', viewKey(q, view, 't:' .. class .. ':' .. name)) == 1 then
      call('ZADD', viewKey(q, view, 'a:' .. class), ready.text(ready.scoreOf(ready.accountOf(name), q)), name)
      ready.refresh(q, view, class)
    end
  end
  if #some == ready.patience and call('EXISTS', capped) == 1 then
    call('SADD', R .. ':uncapping', name)
  elseif #some > 0 or asked then
    call('SREM', R .. ':uncapping', name)
  end
end

-- Settles a tenant's account of a job that was in hand.
function ready.settleAccount(id, h)
  call('HDEL', R .. ':held', id)
  ready.accrue(h)
  local a = ready.accountOf(h.tenant)
  a.credit = ready.rounded(a.credit + h.accounted - h.used)
  a.owed[h.q] = ready.rounded((a.owed[h.q] or 0) + h.accounted - h.used)
  a.mean = math.max(0.05, a.mean * 0.8 + h.used * 0.2)
  a.held = math.max(0, a.held - 1)
  ready.saveAccount(h.tenant)
  if call('EXISTS', R .. ':capped:' .. h.tenant, R .. ':debt') > 0 then
    ready.uncap(h.tenant)
    ready.forgetDebtors()
  end
end

-- A job is out of the consumers' hands; by its id among all queues.
function ready.settle(id)
  local h = ready.heldOf(id)
  local q = h and h.q or ownQueue
  local jobId = ids.job(q, id)
  if jobId then
    call('HDEL', R .. ':q:' .. q .. ':unfit', jobId)
    -- Its tenant has one less in hand than it still says.
    keyed.leaving = h and h.tenant
    keyed.release(q, jobId)
    keyed.leaving = nil
  end
  if h then ready.settleAccount(id, h) end
end

-- A view that nobody looks at any more: it is out of the deployment's lists at once, and is taken apart like an epoch that is over.
function ready.garbageOf(q, view) return q .. ':' .. ready.epochOf(q) .. ':' .. view end
function ready.dropView(q, view)
  for _, provider in ipairs(call('SMEMBERS', L)) do call('ZREM', R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view) end
  for _, part in ipairs({ 'mapped', 'policy' }) do call('HDEL', keyOf(q, part), view) end
  call('ZREM', keyOf(q, 'views'), view)
  call('RPUSH', R .. ':garbage', ready.garbageOf(q, view))
  ready.viewsOf[q] = nil
end
