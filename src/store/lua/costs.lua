-- What sandboxes have cost, by tenant and day, in whole micro-units of the deployment's currency.
--   C:day:<day>  hash: 's:<tenant>' -> spent; 'r:<tenant>' -> reserved (see budget.lua); 's*' -> what tenants beyond the bound have spent; 'currency'
-- The tenant of jobs that name none is ''. A day is kept for 41 days after it was written last.
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
  if micros > 0 and redis.call('HEXISTS', key, field) == 0 and redis.call('HLEN', key) >= costs.mostFields then field = 's*' end
  if redis.call('HINCRBY', key, field, string.format('%.0f', micros)) < 0 then redis.call('HSET', key, field, 0) end
  redis.call('PEXPIRE', key, costs.keptMs)
end

-- A run has ended. `charge`: { base, days, tenant, micros (of all its sandboxes), currency }.
function costs.settle(charge)
  local today = costs.today(charge.days)
  costs.add(charge.base, today, 's:' .. charge.tenant, charge.micros)
  redis.call('HSET', costs.key(charge.base, today), 'currency', charge.currency)
end
