-- include costs
-- Wakes some of those that wait for a budget which was changed. ARGV: C, how many, the budgets by tenant that the caller is configured with as JSON, with its first look, or ''.
-- Returns {version of the budgets, 1 when there are more to wake}.
local base, left = ARGV[1], tonumber(ARGV[2])
local raised, asking, waiting = base .. ':raised', base .. ':asking', base .. ':waiting'
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '' and (redis.call('GET', base .. ':configured') or '{}') ~= ARGV[3] then
  redis.call('SET', base .. ':configured', ARGV[3])
  costs.changed(base, '*', nowMs)
end
-- Mostly there is nothing to do, and this is asked for every few seconds.
if redis.call('EXISTS', raised, asking) == 0 then return { redis.call('HGET', base .. ':caps', 'version') or '0', 0 } end
-- Everybody who is parked, in turn; who is parked again meanwhile is not asked a second time.
if redis.call('EXISTS', asking) == 0 and redis.call('ZREM', raised, '*') == 1 and redis.call('EXISTS', waiting) == 1 then redis.call('RENAME', waiting, asking) end
for _, tenant in ipairs(redis.call('SPOP', asking, 4)) do
  redis.call('SADD', waiting, tenant)
  redis.call('ZADD', raised, costs.arrival(base, nowMs), tenant)
end
local tenants = redis.call('ZRANGE', raised, 0, 4, 'WITHSCORES')
for i = 1, #tenants, 2 do
  local tenant = tenants[i]
  if tenant ~= '*' then
    local most = left
    left = left - costs.wake(base, tenant, most, nowMs, tenants[i + 1])
    if redis.call('EXISTS', base .. ':parked:' .. tenant) == 0 then redis.call('SREM', waiting, tenant) end
    if left > 0 then redis.call('ZREM', raised, tenant) else break end
  end
end
return { redis.call('HGET', base .. ':caps', 'version') or '0', redis.call('EXISTS', raised, asking) > 0 and 1 or 0 }
