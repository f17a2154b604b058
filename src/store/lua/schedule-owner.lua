-- Whether a schedule, as it is stored, is one of the tenants' that may change it; the scripts that change one include this file.
-- tenants: JSON, or '' for whoever may change all. One that is not there is nobody's.
local function mayChange(schedule, tenants)
  if tenants == '' then return true end
  local definition = redis.call('HGET', schedule, 'definition')
  if not definition then return true end
  local spec = cjson.decode(definition).spec
  for _, tenant in ipairs(cjson.decode(tenants)) do
    if type(spec) == 'table' and spec.tenant == tenant then return true end
  end
  return false
end
