-- include concurrency
-- What operators say of tenants, whatever is configured; for all consumers, and until it is taken back or its time is over:
--   R:set     hash: tenant -> JSON { pause = { by, reason, atMs, untilMs }, share = { weight, cap, by, reason, atMs, untilMs } }; `untilMs` by the ledger's clock
--   R:lapses  sorted set: tenant -> ms when the first of these is over
-- Waiting jobs of a paused tenant are parked as those of one at its cap, each class of them when it comes up; and so nothing looks at them.
local operate = { mostTenants = 1000 }

function operate.saidOf(name)
  local json = call('HGET', R .. ':set', name)
  local said = json and cjson.decode(json) or {}
  for what, each in pairs(said) do
    if each.untilMs and each.untilMs <= now then said[what] = nil end
  end
  return said
end

-- Puts down what holds from now on; the tenant is put back where it is parked, as far as it may run.
function operate.say(name, said)
  local first
  for _, each in pairs(said) do first = each.untilMs and math.min(first or math.huge, each.untilMs) or first end
  if next(said) == nil then call('HDEL', R .. ':set', name) else call('HSET', R .. ':set', name, cjson.encode(said)) end
  if first then call('ZADD', R .. ':lapses', first, name) else call('ZREM', R .. ':lapses', name) end
  accounts.shares[name], accounts.anyShares = nil, 'unknown'
  views.uncap(name)
  -- Of whoever's turn it is, where there is room.
  for _, provider in ipairs(call('SMEMBERS', L)) do ledger.offer(provider) end
end

-- Takes away what is over, of so many tenants in a call.
function operate.lapse(most)
  for _, name in ipairs(call('ZRANGEBYSCORE', R .. ':lapses', '-inf', now, 'LIMIT', 0, most)) do operate.say(name, operate.saidOf(name)) end
end
