-- include ready
-- Enters jobs that BullMQ holds as waiting; those that it does not, and those that are entered already, are left out.
-- KEYS[4]: BullMQ's prioritized set.
-- ARGV: inbox prefix, inbox ttl, how many kinds of constraints, an id and JSON for each, then for each job: id, number of its constraints, tenant, priority,
--       for how many ms it may wait or ''.
local kinds = tonumber(ARGV[3])
local added = 0
for i = 4 + 2 * kinds, #ARGV, 5 do
  local jobId, name, priority = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3])
  local id, json = ARGV[2 + 2 * tonumber(ARGV[i + 1])], ARGV[3 + 2 * tonumber(ARGV[i + 1])]
  if redis.call('ZSCORE', KEYS[4], jobId) and redis.call('HEXISTS', R .. ':of', jobId) == 0 then
    local arrival = redis.call('INCR', R .. ':arrivals')
    local jobs, heads = R .. ':jobs:' .. id .. ':' .. name, R .. ':heads:' .. name
    local idle = redis.call('EXISTS', heads) == 0
    redis.call('HSET', R .. ':of', jobId, id .. ' ' .. name)
    redis.call('ZADD', jobs, string.format('%.0f', priority * 4294967296 + arrival % 4294967296), jobId)
    local first = redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES')
    redis.call('ZADD', heads, first[2], id)
    redis.call('HSET', R .. ':constraints', id, json)
    redis.call('HINCRBY', R .. ':count', id, 1)
    if ARGV[i + 4] ~= '' then redis.call('ZADD', R .. ':deadline', now + tonumber(ARGV[i + 4]), jobId) end
    if idle then
      local tenant = tenantOf(name)
      tenant.vt = math.max(tenant.vt, tonumber(redis.call('GET', R .. ':now') or '0'))
      saveTenant(name, tenant)
    end
    added = added + 1
  end
end
return added
