-- Whether a schedule, as it is stored, is one of the tenants' that may change it; the scripts that change one include this file.
-- tenants: JSON, or '' for whoever may change all. One that is not there is nobody's.
local function mayChange(schedule, tenants)
  if tenants == '' then return true end
  local state = redis.call('HMGET', schedule, 'definition', 'tenant')
  if not state[1] then return true end
  local owner = state[2]
  if not owner then
    local spec = cjson.decode(state[1]).spec
    owner = type(spec) == 'table' and spec.tenant
  end
  for _, tenant in ipairs(cjson.decode(tenants)) do
    if owner == tenant then return true end
  end
  return false
end
