-- What sandboxes have cost, by tenant and day, in whole micro-units of the deployment's currency; and what is reserved for those of jobs that have a budget.
--   C:day:<day>        hash: 's:<tenant>' -> spent; 'r:<tenant>' -> reserved; 'f:<tenant>' -> how often something that was reserved came free;
--                      's*' -> what tenants beyond the bound have spent; 'currency'
--   C:caps             hash: 't:<tenant>', 'j:<job id among all queues>' -> JSON { micros, by, atMs, of: when the job was added }: budgets that were set at run time; 'version'
--   C:runs             hash: job id among all queues -> JSON { tenant, spent, open = { <attempt> = { c, r, day } } }, of runs that have a budget and have not ended:
--                      `spent` by attempts that have ended; of those that go on, `c` charged and `r` reserved on that day
--   C:covered          sorted set: the same ids -> ms by Redis' clock until which they are reserved for
--   C:parked:<tenant>  sorted set: '<queue>:<job id>' -> its arrival there; C:waiting: set of the tenants that have any
--   C:needs:<tenant>   sorted set: those of them that wait for the tenant's budget -> what each needs of it at the least
--   C:raised           sorted set: tenant, '*' for all -> arrival up to which those that are parked are to be woken, since a budget was changed: whoever is
--                      parked again after that waits for the next change. C:asking: set of tenants that are to be put there, for '*'
--   C:arrivals         the last arrival: about ms by Redis' clock, and never less than before; C:configured: what a consumer was configured with last, as JSON
-- C is Keys.costs(). The tenant of jobs that name none is ''. A day is kept for 41 days after it was written last.
local costs = { mostFields = 20000, keptMs = 41 * 86400000 }

-- The day that it is by Redis' clock, of the days [[its first ms, name], …] that the caller knows; and when it ends.
function costs.today(days)
  local time = redis.call('TIME')
  local nowMs, today, endsAt = time[1] * 1000 + math.floor(time[2] / 1000), days[1][2], nil
  for i, each in ipairs(days) do
    if each[1] <= nowMs then today, endsAt = each[2], days[i + 1] and days[i + 1][1] end
  end
  return today, endsAt or days[2][1], nowMs
end

function costs.key(base, day) return base .. ':day:' .. day end

-- Adds to a tenant's day, or takes off; never below nothing.
function costs.add(base, day, field, micros)
  if micros == 0 then return end
  local key = costs.key(base, day)
  if micros > 0 and redis.call('HEXISTS', key, field) == 0 and redis.call('HLEN', key) >= costs.mostFields and string.sub(field, 1, 2) == 's:' then field = 's*' end
  local left = redis.call('HINCRBY', key, field, string.format('%.0f', micros))
  if left <= 0 and string.sub(field, 1, 2) == 'r:' then redis.call('HDEL', key, field) elseif left < 0 then redis.call('HSET', key, field, 0) end
  redis.call('PEXPIRE', key, costs.keptMs)
end

function costs.runOf(base, id)
  local json = redis.call('HGET', base .. ':runs', id)
  return json and cjson.decode(json) or nil
end
function costs.saveRun(base, id, run) redis.call('HSET', base .. ':runs', id, cjson.encode(run)) end

-- What a run's budget has been charged with, and what is reserved for it.
function costs.chargedTo(run)
  local charged, reserved = run.spent, 0
  for _, each in pairs(run.open) do charged, reserved = charged + each.c, reserved + each.r end
  return charged, reserved
end

-- An attempt has cost so much by now: what was reserved for that is spent, on the day on which it was reserved; what is beyond it today.
function costs.charge(base, run, each, micros, today)
  local used = micros - each.c
  if used <= 0 then return end
  local covered = math.min(used, each.r)
  costs.add(base, each.day, 'r:' .. run.tenant, 0 - covered)
  costs.add(base, each.day, 's:' .. run.tenant, covered)
  costs.add(base, today, 's:' .. run.tenant, used - covered)
  each.c, each.r = micros, each.r - covered
end

-- An attempt has ended, and has cost so much in the end. Returns whether something that was reserved is free again.
function costs.close(base, run, attempt, micros, today)
  local each = run.open[attempt]
  if not each then return false end
  costs.charge(base, run, each, micros, today)
  if micros < each.c then costs.add(base, today, 's:' .. run.tenant, micros - each.c) end
  costs.add(base, each.day, 'r:' .. run.tenant, 0 - each.r)
  run.spent, run.open[attempt] = run.spent + micros, nil
  return each.r > 0 or micros < each.c
end

-- Nobody has renewed what these were reserved for: it counts as used, until somebody says what was. A bounded number in each call.
function costs.lapse(base, nowMs, but)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':covered', '-inf', nowMs, 'LIMIT', 0, 4)) do
    local run = id ~= but and costs.runOf(base, id)
    if run then
      for _, each in pairs(run.open) do
        costs.add(base, each.day, 'r:' .. run.tenant, 0 - each.r)
        costs.add(base, each.day, 's:' .. run.tenant, each.r)
        each.c, each.r = each.c + each.r, 0
      end
      if redis.call('EXISTS', (string.gsub(base, 'costs$', 'run:')) .. id) == 1 then costs.saveRun(base, id, run) else redis.call('HDEL', base .. ':runs', id) end
    end
    if id ~= but then redis.call('ZREM', base .. ':covered', id) end
  end
end

-- Changes with every budget that is set, and whenever something comes free that was reserved for a tenant: who was refused before that asks again.
function costs.stamp(base, today, tenant)
  return (redis.call('HGET', base .. ':caps', 'version') or '0') .. '/' .. today .. '/' .. (redis.call('HGET', costs.key(base, today), 'f:' .. tenant) or '0')
end

-- Takes a job out of those that are parked.
function costs.unpark(base, tenant, member)
  redis.call('ZREM', base .. ':parked:' .. tenant, member)
  redis.call('ZREM', base .. ':needs:' .. tenant, member)
  if redis.call('EXISTS', base .. ':parked:' .. tenant) == 0 then redis.call('SREM', base .. ':waiting', tenant) end
end

local function due(base, tenant, member, nowMs)
  local q, jobId = string.match(member, '^([^:]*):(.*)$')
  redis.call('ZADD', (string.gsub(base, ':costs$', '')) .. q .. ':delayed', 'XX', string.format('%.0f', nowMs * 4096), jobId)
  redis.call('ZREM', base .. ':parked:' .. tenant, member)
  redis.call('ZREM', base .. ':needs:' .. tenant, member)
end

-- What a tenant's sandboxes may cost a day; nil for any amount. `configured`: as JSON, of whoever asks.
function costs.capOf(base, tenant, configured)
  local function said(name)
    local json = redis.call('HGET', base .. ':caps', 't:' .. name)
    return json and cjson.decode(json).micros or nil
  end
  return said(tenant) or configured[tenant] or said('*') or configured['*']
end

-- Something that was reserved for a tenant is free again: a few of those that wait for it ask again, some that are parked longest and some for which there is enough now,
-- and what waits in the index (ready.lua).
function costs.free(base, today, tenant, nowMs)
  redis.call('HINCRBY', costs.key(base, today), 'f:' .. tenant, 1)
  redis.call('ZADD', string.gsub(base, ':costs$', '') .. 'ready:paying:version', 'XX', -1, tenant)
  if redis.call('EXISTS', base .. ':parked:' .. tenant) == 0 then return end
  costs.wake(base, tenant, 3, nowMs)
  local cap = costs.capOf(base, tenant, cjson.decode(redis.call('GET', base .. ':configured') or '{}'))
  local used = redis.call('HMGET', costs.key(base, today), 's:' .. tenant, 'r:' .. tenant)
  local left = cap and string.format('%.0f', cap - tonumber(used[1] or '0') - tonumber(used[2] or '0')) or '+inf'
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', base .. ':needs:' .. tenant, '-inf', left, 'LIMIT', 0, 3)) do due(base, tenant, member, nowMs) end
end

-- Numbers what is parked, and what is raised, as they come, whatever is done to the clock.
function costs.arrival(base, nowMs)
  local number = math.max(tonumber(redis.call('GET', base .. ':arrivals') or '0') + 1, nowMs)
  redis.call('SET', base .. ':arrivals', string.format('%.0f', number), 'PX', costs.keptMs)
  return string.format('%.0f', number)
end

-- Budgets were changed: of a tenant, or with '*' of everybody. What waits in the index of those alone is looked at again (unpaid.lua): of a thousand tenants whose budgets are used up
-- each would have a job taken, and parked, whenever somebody changes the budget of one.
function costs.changed(base, tenant, nowMs)
  local version = redis.call('HINCRBY', base .. ':caps', 'version', 1)
  local paying = string.gsub(base, ':costs$', '') .. 'ready:paying:'
  if tenant ~= '*' then
    redis.call('ZADD', paying .. 'version', 'XX', -1, tenant)
  elseif redis.call('EXISTS', paying .. 'version') == 1 then
    redis.call('SET', paying .. 'all', version)
  end
  redis.call('ZADD', base .. ':raised', costs.arrival(base, nowMs), tenant)
end

-- Wakes so many of a tenant's parked jobs, those that are parked longest, up to an arrival: whoever looks next finds that their time has come. Returns how many.
function costs.wake(base, tenant, most, nowMs, upTo)
  local parked = base .. ':parked:' .. tenant
  local members = redis.call('ZRANGEBYSCORE', parked, '-inf', upTo or '+inf', 'LIMIT', 0, most)
  for _, member in ipairs(members) do due(base, tenant, member, nowMs) end
  return #members
end

-- A run has ended. `charge`: { base, days, run (its job's id among all queues), tenant, micros (of all its sandboxes), currency, parked ('<queue>:<job id>' of one that
-- has waited for a budget: it may wait no more) }.
function costs.settle(charge)
  local base = charge.base
  local today, _, nowMs = costs.today(charge.days)
  local run = costs.runOf(base, charge.run)
  local tenant, charged, freed = charge.tenant, 0, false
  if charge.parked then costs.unpark(base, tenant, charge.parked) end
  if run then
    local reserved
    charged, reserved = costs.chargedTo(run)
    tenant = run.tenant
    for _, each in pairs(run.open) do costs.add(base, each.day, 'r:' .. tenant, 0 - each.r) end
    redis.call('HDEL', base .. ':runs', charge.run)
    redis.call('ZREM', base .. ':covered', charge.run)
    freed = reserved > 0 or charge.micros < charged
  end
  if charge.micros ~= charged then
    costs.add(base, today, 's:' .. tenant, charge.micros - charged)
    redis.call('HSET', costs.key(base, today), 'currency', charge.currency)
  end
  if freed then costs.free(base, today, tenant, nowMs) end
end

-- A run has ended that has cost nothing as far as whoever ends it knows. Who had it before may have reserved for it, and died before the record said so.
function costs.forgo(base, id)
  local run = costs.runOf(base, id)
  if not run then return end
  local freed
  for _, each in pairs(run.open) do
    costs.add(base, each.day, 'r:' .. run.tenant, 0 - each.r)
    if each.r > 0 then freed = each.day end
  end
  redis.call('HDEL', base .. ':runs', id)
  redis.call('ZREM', base .. ':covered', id)
  local time = redis.call('TIME')
  if freed then costs.free(base, freed, run.tenant, time[1] * 1000 + math.floor(time[2] / 1000)) end
end
