-- include costs
-- A job waits for a budget, or does no more; who waits for a tenant's is woken when that has more.
-- ARGV: C, tenant, '<queue>:<job id>', 1 when it waits, stamp of the budgets by which it was refused, days as JSON, what it needs of the tenant's budget at the least or ''.
-- Returns 1, or 0 when the budgets are others by now.
local base, tenant, member = ARGV[1], ARGV[2], ARGV[3]
local parked = base .. ':parked:' .. tenant
if ARGV[4] ~= '1' then
  costs.unpark(base, tenant, member)
  return 1
end
local today, _, nowMs = costs.today(cjson.decode(ARGV[6]))
redis.call('ZADD', parked, costs.arrival(base, nowMs), member)
if ARGV[7] ~= '' then redis.call('ZADD', base .. ':needs:' .. tenant, ARGV[7], member) else redis.call('ZREM', base .. ':needs:' .. tenant, member) end
redis.call('SADD', base .. ':waiting', tenant)
if costs.stamp(base, today, tenant) == ARGV[5] then return 1 end
-- There may be enough by now: the job looks for itself.
local q, jobId = string.match(member, '^([^:]*):(.*)$')
redis.call('ZADD', (string.gsub(base, ':costs$', '')) .. q .. ':delayed', 'XX', string.format('%.0f', nowMs * 4096), jobId)
return 0
