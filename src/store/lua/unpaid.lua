-- include views
-- What a tenant's budget can't pay for, as far as is known: out of the views, so that nothing looks at it.
unpaid.any = 'unknown'

-- lazily unpaid
function unpaid.key(name) return R .. ':unpaid:' .. name end

function unpaid.holds(q, view, shape, name)
  if unpaid.any == 'unknown' then unpaid.any = call('EXISTS', R .. ':unpaid') == 1 end
  return unpaid.any and call('SISMEMBER', unpaid.key(name), q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. view) == 1
end

-- Holds what a view would give of a shape's jobs until the tenant's budget may have more: on another day, by another version of its budget or everybody's, or because something
-- that was reserved came free (costs.free).
function unpaid.hold(q, view, shape, name, why, untilMs, version)
  call('SADD', unpaid.key(name), q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. view)
  call('HSET', R .. ':unpaid', q .. ':' .. ready.epochOf(q) .. ':' .. shape .. ':' .. name, why)
  -- What is due already stays due: others of its shapes were held before that.
  for part, score in pairs({ day = untilMs, version = version }) do
    local known = call('ZSCORE', R .. ':paying:' .. part, name)
    if not known or tonumber(known) > tonumber(score) then call('ZADD', R .. ':paying:' .. part, score, name) end
  end
  unpaid.any = true
  views.placeAll(q, shape, name)
end

-- Puts a tenant's jobs back where they would stand, as far as this call goes: the first of them asks again.
function unpaid.release(name)
  local some = call('SPOP', unpaid.key(name), ready.patience)
  if #some > 0 then accounts.beginAnew(name) end
  for _, where in ipairs(some) do
    local q, epoch, shape = string.match(where, '^([^:]*):(%d+):(%x+):')
    call('HDEL', R .. ':unpaid', q .. ':' .. epoch .. ':' .. shape .. ':' .. name)
    if epoch == ready.epochOf(q) then views.placeAll(q, shape, name) end
  end
  if call('EXISTS', unpaid.key(name)) == 1 then return end
  for _, part in ipairs({ 'day', 'version' }) do call('ZREM', R .. ':paying:' .. part, name) end
  if call('EXISTS', R .. ':paying:version') == 0 then call('DEL', R .. ':paying:all') end
end

-- The tenants, so many at most, of whom it is time to look again.
function unpaid.due(most)
  if call('EXISTS', R .. ':paying:day') == 0 then return {} end
  local found = call('ZRANGEBYSCORE', R .. ':paying:version', '-inf', '(' .. (call('GET', R .. ':paying:all') or '0'), 'LIMIT', 0, most)
  if #found > 0 then return found end
  return call('ZRANGEBYSCORE', R .. ':paying:day', '-inf', redisNow, 'LIMIT', 0, most)
end
