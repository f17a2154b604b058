-- When a schedule is due from now on. While the job of a decided run is still to be added that comes first, whatever is changed, for whoever comes next.
local function setDue(schedule, due, id, score)
  local pending = redis.call('HGET', schedule, 'pending')
  if pending then
    redis.call('HSET', schedule, 'then', score)
    score = string.match(pending, '"slotMs":(-?%d+)')
  else
    redis.call('HDEL', schedule, 'then')
  end
  redis.call('ZADD', due, score, id)
end

-- The tenant of a schedule's job, '' or nil for none; nil when there is no such schedule.
local function tenantOf(schedule)
  local state = redis.call('HMGET', schedule, 'definition', 'tenant')
  if not state[1] then return nil end
  if state[2] then return state[2] end
  local spec = cjson.decode(state[1]).spec
  return type(spec) == 'table' and spec.tenant or nil
end

-- Whether a schedule, as it is stored, is one of the tenants' that may change it; the scripts that change one include this file.
-- tenants: JSON, or '' for whoever may change all. One that is not there is nobody's.
local function mayChange(schedule, tenants)
  if tenants == '' then return true end
  if redis.call('HEXISTS', schedule, 'definition') == 0 then return true end
  local owner = tenantOf(schedule)
  for _, tenant in ipairs(cjson.decode(tenants)) do
    if owner == tenant then return true end
  end
  return false
end
