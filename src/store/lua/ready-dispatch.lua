-- include fitness
-- Chooses the next job and its place, binds the two, and puts the job where BullMQ takes the next one from.
-- KEYS[4..7]: BullMQ's prioritized set, wait list, active list and meta hash.
-- ARGV: inbox prefix, inbox ttl, holder, lease id, limits of the holder's providers as JSON, orders as JSON (constraints id -> names of
--       providers, the best first, none when it is not for this consumer now; false when it holds that nobody can ever run such a job), ms for
--       which to count as idle when there is nothing (more); 0 to not; what the caller has as JSON { profile, providers, secrets, shares }: its
--       profile's id, the providers and secrets that it can use now, and whether it knows of tenants' shares; grace in ms.
-- Returns {what, job id or '', provider at which it has its place or '', loads as JSON, ms until there may be room without a place given
--          back or '', unknown constraints (id, JSON, …), jobs listed, jobs that BullMQ holds, constraints listed,
--          1 if there is nothing more to take now, the job that waited to be taken or '', why it or the chosen one is given: '' or
--          'stranded' or 'nobody' (see `standOf`), 'overdue' when its time to wait is over; reasons as a JSON list, 1 if the tenants' shares are lost}. `what`:
--   'take'     BullMQ's wait list holds a job whose time has come: this one, or one that was stalled or handed over
--   'nothing'  no job, or no place for one
--
-- Order: tenants by their turns, a tenant's jobs by priority and arrival. A job that has no place now is passed over by those
-- behind it that have one; when a place that it can use becomes free it is before all that came after it.
local holder, leaseId, limits, orders, idleMs = ARGV[3], ARGV[4], cjson.decode(ARGV[5]), cjson.decode(ARGV[6]), tonumber(ARGV[7])
local mine, grace = cjson.decode(ARGV[8]), tonumber(ARGV[9])
local usable, secrets = asSet(mine.providers), asSet(mine.secrets)
local sharesLost = mine.shares and redis.call('EXISTS', R .. ':shares') == 0
local prioritized, wait, active, meta = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local runPrefix = string.gsub(L, ':ledger$', ':run:')
-- How many jobs that were handed over are looked at.
local handedPerLook = 32
configure(limits)
local providers, names, kept, free = {}, {}, {}, false
for _, each in ipairs(limits) do
  local name = each.provider
  names[#names + 1] = name
  kept[name] = grant(name)
  providers[name] = read(name)
  if not kept[name] and room(providers[name], 0, 0) == 'fits' then free = true end
end
local unknown = {}

-- A consumer becomes idle in the very step that leaves nothing for it, so that no wake-up goes past it; one that can take no
-- more, or looks again by itself, is woken for nothing.
local function answer(what, jobId, provider, waited, stand, why)
  local soonest, loads, spare, queued = '', {}, false, redis.call('EXISTS', R .. ':turns') == 1
  for i, name in ipairs(names) do
    local p = providers[name]
    loads[i] = load(p)
    if not kept[name] and room(p, 0, 0) == 'fits' then spare = true end
    local ms = queued and opensIn(p)
    if ms and (soonest == '' or ms < soonest) then soonest = ms end
  end
  local last = what == 'nothing' or (jobId and not (queued and spare))
  if last and idleMs > 0 then
    redis.call('ZREMRANGEBYSCORE', I, '-inf', now)
    redis.call('ZADD', I, now + idleMs, holder)
    redis.call('PEXPIRE', I, 2 * idleMs)
  else
    redis.call('ZREM', I, holder)
  end
  return { what, jobId or '', provider or '', #loads == 0 and '[]' or cjson.encode(loads), soonest, unknown,
    redis.call('HLEN', R .. ':of'), redis.call('ZCARD', prioritized), redis.call('HLEN', R .. ':constraints'), last and 1 or 0,
    waited or '', stand or '', why or '[]', sharesLost and 1 or 0 }
end

-- A job's sandbox, or the one that was being made for it, is at this provider: where it has its place, or as its record says.
local function providerOf(jobId)
  local leaseId = redis.call('HGET', L .. ':jobs', jobId)
  local lease = leaseId and getLease(leaseId)
  if lease then return lease.provider end
  local text = redis.call('HGET', runPrefix .. jobId, 'record')
  local record = text and cjson.decode(text)
  local at = record and (type(record.sandbox) == 'table' and record.sandbox or type(record.creating) == 'table' and record.creating)
  return at and at.provider or nil
end

-- Whether this consumer takes a job that was in somebody's hands, and why; nil when it leaves it to others:
--   ''          it has what the job needs
--   'stranded'  nobody has, for longer than the grace: it may go on elsewhere
--   'nobody'    and everybody has found that it can't: it is to be ended, by one that reaches its sandbox if there is one
local function standOf(jobId)
  local provider = providerOf(jobId)
  local text = redis.call('HGET', R .. ':held', jobId)
  local needed = text and cjson.decode(text).secrets or {}
  local refusals = refusalsOf(jobId)
  local function has(providers, names)
    if provider and not providers[provider] then return false end
    for _, name in ipairs(needed) do
      if not names[name] and not names['*'] then return false end
    end
    return true
  end
  if has(usable, secrets) and not refuses(refusals, mine.profile) then return '' end
  local sinceMs = nobodySince(jobId, refusals, function(profile) return has(profile.providers, profile.secrets) end)
  if not sinceMs then return nil end
  -- Its end need not wait for whoever might have gone on.
  if redis.call('HEXISTS', runPrefix .. jobId, 'cancelReason') == 1 then return 'stranded' end
  if sinceMs < grace then return nil end
  if not refuses(refusals, mine.profile) then return 'stranded' end
  local reached = false
  for id, profile in pairs(profiles()) do
    if not refusesForGood(refusals, id) then return nil end
    if provider and profile.providers[provider] then reached = true end
  end
  if reached and not usable[provider] then return nil end
  return 'nobody', reasons(refusals)
end

local paused = redis.call('HMGET', meta, 'paused', 'concurrency')
if paused[1] or (paused[2] and redis.call('LLEN', active) >= tonumber(paused[2])) then return answer('nothing') end
if sharesLost then return answer('nothing') end
-- What is taken first stands last. Those that are not for this consumer are put behind the others, so that it sees these at its next look.
local handed = redis.call('LRANGE', wait, -handedPerLook, -1)
for i = #handed, 1, -1 do
  local stand, why = standOf(handed[i])
  if stand then
    if i < #handed then
      redis.call('LREM', wait, -1, handed[i])
      redis.call('RPUSH', wait, handed[i])
    end
    return answer('take', nil, nil, handed[i], stand, why)
  end
end
if redis.call('LLEN', wait) > #handed then
  for i = #handed, 1, -1 do
    redis.call('LREM', wait, -1, handed[i])
    redis.call('LPUSH', wait, handed[i])
  end
end
-- Asked again after a lost answer: the job of this lease has its place, and somebody has taken it meanwhile.
if getLease(leaseId) then return answer('nothing') end
local overdue = redis.call('ZRANGEBYSCORE', R .. ':deadline', '-inf', now, 'LIMIT', 0, 10)
local everRun = #overdue == 0
for _, id in ipairs(redis.call('HKEYS', R .. ':constraints')) do
  if orders[id] == nil then
    unknown[#unknown + 1] = id
    unknown[#unknown + 1] = redis.call('HGET', R .. ':constraints', id)
  elseif orders[id] == false then
    -- Somebody who can may have come since.
    local sinceMs = nobodySince(id, refusalsOf(id), anyProfile)
    if sinceMs and sinceMs >= grace then everRun = false else orders[id] = {} end
  end
end
-- The caller learns of these first, and asks again: nobody is passed over because of what is not known yet.
if #unknown > 0 and #overdue == 0 then return answer('nothing') end
if everRun and not free then return answer('nothing') end

-- Where the first of these jobs can go now: a provider, false for "nowhere, ever", nil for "not now".
local function placeFor(id, constraints, where)
  local order = orders[id]
  if order == false then return false end
  local unfit = {}
  for _, name in ipairs(order) do
    local p = providers[name]
    if p and not kept[name] then
      local found = room(p, constraints.milliCpu, constraints.memoryMiB)
      if found == 'fits' then return name end
      if found == 'unfit' then unfit[#unfit + 1] = name end
    end
  end
  if #unfit > 0 then
    redis.call('HSETNX', R .. ':passed', where, now)
    if now - tonumber(redis.call('HGET', R .. ':passed', where)) > patienceMs then
      for _, name in ipairs(unfit) do kept[name] = true end
    end
  end
  return nil
end

local function give(jobId, name, tenant, share, provider, constraints)
  unlist(jobId)
  if redis.call('ZREM', prioritized, jobId) == 0 then return false end
  redis.call('RPUSH', wait, jobId)
  tenant = tenantOf(name)
  local charged = tenant.mean
  redis.call('SET', R .. ':now', string.format('%.6f', tenant.vt))
  tenant.vt = tenant.vt + charged / share.weight
  tenant.held = tenant.held + 1
  redis.call('HSET', R .. ':held', jobId, cjson.encode({ tenant = name, at = now, charged = charged, secrets = constraints.secrets }))
  saveTenant(name, tenant)
  local held = redis.call('HGET', L .. ':jobs', jobId)
  local place = held and getLease(held)
  if place then return true, place.provider end
  if provider then
    take(leaseId, provider, holder, constraints.milliCpu, constraints.memoryMiB, 0)
    local lease = getLease(leaseId)
    lease.jobId = jobId
    -- BullMQ's own key of it, beside its other ones.
    lease.job = prioritized:gsub('prioritized$', '') .. jobId
    redis.call('HSET', L .. ':lease', leaseId, cjson.encode(lease))
    redis.call('HSET', L .. ':jobs', jobId, leaseId)
    redis.call('ZADD', leasesKey(provider), '+inf', leaseId)
    providers[provider] = read(provider)
  end
  return true, provider
end

-- Their time to wait is over: each is taken to be ended, before anything is begun.
for _, jobId in ipairs(overdue) do
  local id, name = string.match(redis.call('HGET', R .. ':of', jobId) or '', '^(%S+) (.*)$')
  if id then
    local why = reasons(refusalsOf(id))
    if give(jobId, name, tenantOf(name), shareOf(name), nil, { milliCpu = 0, memoryMiB = 0 }) then return answer('take', jobId, nil, nil, 'overdue', why) end
  else
    redis.call('ZREM', R .. ':deadline', jobId)
  end
end

local from = 0
while true do
  local tenants = redis.call('ZRANGE', R .. ':turns', from, from + 49)
  if #tenants == 0 then return answer('nothing') end
  for _, name in ipairs(tenants) do
    local tenant, share = tenantOf(name), shareOf(name)
    if not share.cap or tenant.held < share.cap then
      for _, id in ipairs(redis.call('ZRANGE', R .. ':heads:' .. name, 0, -1)) do
        if free or not orders[id] then
          local where = id .. ' ' .. name
          local constraints = cjson.decode(redis.call('HGET', R .. ':constraints', id) or '{"milliCpu":0,"memoryMiB":0}')
          local provider = placeFor(id, constraints, where)
          while provider ~= nil do
            local jobId = redis.call('ZRANGE', R .. ':jobs:' .. where:gsub(' ', ':', 1), 0, 0)[1]
            if not jobId then break end
            redis.call('HDEL', R .. ':passed', where)
            local stand, why = '', nil
            if provider == false then stand, why = 'nobody', reasons(refusalsOf(id)) end
            -- What BullMQ does not hold any more was removed around this index.
            local given, at = give(jobId, name, tenant, share, provider, constraints)
            if given then return answer('take', jobId, at, nil, stand, why) end
          end
        end
      end
    end
  end
  from = from + 50
end
