-- include costs
-- Wakes some of those that wait for a budget which was changed. ARGV: C, how many. Returns {version of the budgets, 1 when there are more to wake}.
local base, left = ARGV[1], tonumber(ARGV[2])
-- Mostly there is nothing to do, and this is asked for every few seconds.
if redis.call('EXISTS', base .. ':waking') == 0 then return { redis.call('HGET', base .. ':caps', 'version') or '0', 0 } end
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local waking = base .. ':waking'
for _, tenant in ipairs(redis.call('SRANDMEMBER', waking, 4)) do
  -- The budget of all that have none of their own: everybody who is parked, in turn.
  local tenants = tenant == '*' and redis.call('SRANDMEMBER', base .. ':waiting', 16) or { tenant }
  local woken = 0
  for _, each in ipairs(tenants) do
    if left - woken > 0 then woken = woken + costs.wake(base, each, left - woken, nowMs) end
    if redis.call('EXISTS', base .. ':parked:' .. each) == 0 then redis.call('SREM', base .. ':waiting', each) end
  end
  left = left - woken
  if tenant == '*' and redis.call('EXISTS', base .. ':waiting') == 0 or tenant ~= '*' and left > 0 then redis.call('SREM', waking, tenant) end
end
return { redis.call('HGET', base .. ':caps', 'version') or '0', redis.call('EXISTS', waking) }
