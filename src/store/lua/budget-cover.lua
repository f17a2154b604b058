-- include costs
-- Reserves what a job's sandbox will cost for a while, before it is made and then again and again: granted only while its tenant's day and the job itself have so
-- much left. What it has cost until now is charged in the same step, whatever is left.
-- KEYS: run. ARGV: C, the job's id among all queues, fence, days as JSON, tenant, the configured budget of the tenant and of all others or '', the job's own or '', currency,
--       attempts that have ended and what each cost as JSON { <attempt> = micros }; attempt, what it has cost, what is to be reserved beyond that, for how many ms; '' for none, and then
--       what is asked for, without reserving it, or ''.
-- Returns {'lost'} (also of a run that has ended), or {'granted' or 'refused', 'tenant' or 'job' or '': whose budget has too little, its spent, its reserved, its cap or '', when the day ends in ms since 1970,
-- stamp of the budgets}.
local base, id, tenant = ARGV[1], ARGV[2], ARGV[5]
local state = redis.call('HMGET', KEYS[1], 'fence', 'result', 'of')
-- A run that has ended is charged for: what was on its way then would charge it anew, and be left.
if state[1] ~= ARGV[3] or state[2] then return { 'lost' } end
local today, endsAt, nowMs = costs.today(cjson.decode(ARGV[4]))
costs.lapse(base, nowMs, id)
local ended, attempt = cjson.decode(ARGV[10]), ARGV[11]

local tenantCap = costs.capOf(base, tenant, { [tenant] = tonumber(ARGV[6]), ['*'] = tonumber(ARGV[7]) })
local set = redis.call('HGET', base .. ':caps', 'j:' .. id)
set = set and cjson.decode(set)
-- Said of a job that was removed, and had this one's id.
if set and set.of and state[3] and set.of ~= state[3] then
  redis.call('HDEL', base .. ':caps', 'j:' .. id)
  set = nil
end
local jobCap = set and set.micros or tonumber(ARGV[8])

local run, freed = costs.runOf(base, id), false
if not run then
  run = { tenant = tenant, spent = 0, open = {} }
  -- What it had cost before it had a budget.
  for _, micros in pairs(ended) do run.spent = run.spent + micros end
  costs.add(base, today, 's:' .. tenant, run.spent)
end
for each, micros in pairs(ended) do
  if costs.close(base, run, each, micros, today) then freed = true end
end
local function usedToday()
  local used = redis.call('HMGET', costs.key(base, today), 's:' .. run.tenant, 'r:' .. run.tenant)
  return tonumber(used[1] or '0'), tonumber(used[2] or '0')
end

local what, who, spent, reserved, cap = 'granted', '', 0, 0, ''
if attempt == '' and ARGV[13] ~= '' then
  local wanted = tonumber(ARGV[13])
  local daySpent, dayReserved = usedToday()
  local jobSpent, jobReserved = costs.chargedTo(run)
  if jobCap and jobSpent + jobReserved + wanted > jobCap then
    what, who, spent, reserved, cap = 'refused', 'job', jobSpent, jobReserved, jobCap
  elseif tenantCap and daySpent + dayReserved + wanted > tenantCap then
    what, who, spent, reserved, cap = 'refused', 'tenant', daySpent, dayReserved, tenantCap
  end
elseif attempt ~= '' then
  local cost, wanted, forMs = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
  local each = run.open[attempt] or { c = 0, r = 0, day = today }
  costs.charge(base, run, each, cost, today)
  if each.r > wanted then
    costs.add(base, each.day, 'r:' .. run.tenant, wanted - each.r)
    freed, each.r = true, wanted
  end
  run.open[attempt] = each
  local daySpent, dayReserved = usedToday()
  local jobSpent, jobReserved = costs.chargedTo(run)
  -- What is left of an earlier day's is given back there, unless it is enough. Nothing goes on by what was reserved before a budget was lowered.
  local extra = each.r == wanted and 0 or each.day == today and wanted - each.r or wanted
  if jobCap and jobSpent + jobReserved + wanted - each.r > jobCap then
    what, who, spent, reserved, cap = 'refused', 'job', jobSpent, jobReserved, jobCap
  elseif tenantCap and daySpent + dayReserved + extra > tenantCap and (extra > 0 or each.day == today) then
    what, who, spent, reserved, cap = 'refused', 'tenant', daySpent, dayReserved, tenantCap
  elseif extra > 0 then
    if each.day ~= today then costs.add(base, each.day, 'r:' .. run.tenant, 0 - each.r) end
    costs.add(base, today, 'r:' .. run.tenant, extra)
    each.r, each.day = wanted, today
  end
  run.open[attempt] = (each.c > 0 or each.r > 0) and each or nil
  if what == 'granted' then redis.call('ZADD', base .. ':covered', string.format('%.0f', nowMs + forMs), id) end
end
if next(run.open) == nil then redis.call('ZREM', base .. ':covered', id) end
costs.saveRun(base, id, run)
if redis.call('EXISTS', costs.key(base, today)) == 1 then redis.call('HSET', costs.key(base, today), 'currency', ARGV[9]) end
if freed then costs.free(base, today, run.tenant, nowMs) end
return { what, who, spent, reserved, cap, endsAt, costs.stamp(base, today, run.tenant) }
