-- include ledger
-- What a provider answered, for all consumers to know.
-- ARGV: inbox prefix, inbox ttl, provider, then one of
--   'created', ms each took, …      it works: the breaker closes
--   'capacity'                      "limit reached": the ceiling goes down
--   'rate-limited', ms or ''        "too many calls": no create for so long, and half the rate; the third in a row opens the breaker
--   'down'                          an infrastructure error: the third in a row opens the breaker
--   'auth'                          refused credentials: somebody must mend them; the breaker opens for long
--   'unreachable', sandbox, ms      a sandbox that lives can't be reached; of three, with none that answered for so long, the breaker opens
--   'answered'                      a sandbox answered: a breaker that opened for that closes
--   'foreign', how many, for ms     sandboxes that others run in the same account
local name, kind = ARGV[3], ARGV[4]
local key = ledger.providerKey(name)
local p = ledger.read(name)

local marks = L .. ':unreachable:' .. name

local function close()
  redis.call('HDEL', key, 'failures', 'failedAt', 'openUntil', 'openings', 'probe', 'probeAt', 'why')
  -- Not all that wait at once, however much a bucket holds meanwhile.
  if p.why == 'rate-limited' then redis.call('HSET', key, 'tokens', 1, 'tokensAt', now, 'paceAt', now) end
end

local function open(ms, why)
  redis.call('HSET', key, 'openUntil', now + ms, 'why', why)
  redis.call('HDEL', key, 'failures', 'failedAt', 'probe', 'probeAt')
end

-- "Too many calls" over and over: without a word of for how long, ever longer, and not on the second.
local function openLimited(told)
  local openings = p.why == 'rate-limited' and (p.openings or 0) + 1 or 1
  local ms = told and math.max(told, 1000) or math.min(60000, 2000 * 2 ^ math.min(openings - 1, 5)) * (0.75 + time[2] % 1000 / 2000)
  -- The pace at which creates go on once one succeeds.
  if p.why ~= 'rate-limited' then
    local known = not p.rate and p.rateNow
    redis.call('HSET', key, 'pace', known and string.format('%.4f', math.max(0.5, known / 2)) or 2, 'paceDoublesMs', known and 20000 or 2000)
    redis.call('HDEL', key, 'paceAt')
  end
  redis.call('HSET', key, 'openings', openings)
  redis.call('HDEL', key, 'limited', 'limitedAt')
  open(math.ceil(ms), 'rate-limited')
end

if kind == 'created' then
  if p.limited then redis.call('HDEL', key, 'limited', 'limitedAt') end
  -- That sandboxes come to be says nothing of the way into them.
  if p.why ~= 'data-plane' then close() end
  local starts = L .. ':starts:' .. name
  redis.call('LPUSH', starts, unpack(ARGV, 5))
  redis.call('LTRIM', starts, 0, 99)
  local sorted = {}
  for _, ms in ipairs(redis.call('LRANGE', starts, 0, -1)) do sorted[#sorted + 1] = tonumber(ms) end
  table.sort(sorted)
  redis.call('HSET', key, 'p50', sorted[math.ceil(#sorted * 0.5)], 'p95', sorted[math.ceil(#sorted * 0.95)], 'slowest', sorted[#sorted])
elseif kind == 'capacity' then
  -- Whoever was refused still holds its place here: the provider takes at least one less than are in use.
  local ceiling = math.max(0, math.min(p.used - 1, math.ceil(p.used * 0.9), p.effective))
  redis.call('HSET', key, 'ceiling', ceiling, 'ceilingAt', now)
elseif kind == 'rate-limited' then
  local told = tonumber(ARGV[5])
  redis.call('HSET', key, 'blockedUntil', math.max(p.blockedUntil or 0, now + (told or 1000)))
  if p.rate then
    redis.call('HSET', key, 'slowdown', string.format('%.4f', math.max(0.05, p.slowdownNow / 2)), 'slowdownAt', now)
  elseif p.rateNow and now - p.paceAt >= 1000 then
    -- Those that are refused at the same time say it once.
    redis.call('HSET', key, 'pace', string.format('%.4f', math.max(0.1, p.rateNow / 2)), 'paceAt', now, 'paceDoublesMs', 20000, 'tokens', string.format('%.6f', p.tokensNow), 'tokensAt', now)
  end
  local state = ledger.breaker(p)
  if state == 'closed' then
    local limited = (p.limitedAt and now - p.limitedAt < 60000) and (p.limited or 0) + 1 or 1
    if limited >= 3 then openLimited(told) else redis.call('HSET', key, 'limited', limited, 'limitedAt', now) end
  elseif state ~= 'open' and p.why ~= 'data-plane' then
    openLimited(told)
  end
elseif kind == 'auth' then
  open(300000, 'auth')
elseif kind == 'down' then
  local state = ledger.breaker(p)
  if state == 'closed' then
    local failures = (p.failedAt and now - p.failedAt < 60000) and (p.failures or 0) + 1 or 1
    if failures >= 3 then
      redis.call('HSET', key, 'openings', 1)
      open(5000, 'down')
    else
      redis.call('HSET', key, 'failures', failures, 'failedAt', now)
    end
  elseif state ~= 'open' then
    local openings = p.why == 'rate-limited' and 1 or (p.openings or 0) + 1
    redis.call('HSET', key, 'openings', openings)
    open(math.min(300000, 5000 * 2 ^ (openings - 1)), 'down')
  end
elseif kind == 'unreachable' then
  redis.call('ZADD', marks, now, ARGV[5])
  redis.call('ZREMRANGEBYSCORE', marks, '-inf', now - 60000)
  redis.call('ZREMRANGEBYRANK', marks, 0, -101)
  redis.call('PEXPIRE', marks, 60000)
  local state = ledger.breaker(p)
  if state == 'closed' then
    if redis.call('ZCARD', marks) >= 3 and now - (p.answeredAt or 0) > tonumber(ARGV[6]) then
      redis.call('HSET', key, 'openings', 1)
      open(5000, 'data-plane')
    end
  elseif state ~= 'open' and p.why == 'data-plane' then
    local openings = (p.openings or 0) + 1
    redis.call('HSET', key, 'openings', openings)
    open(math.min(60000, 5000 * 2 ^ (openings - 1)), 'data-plane')
  end
elseif kind == 'answered' then
  redis.call('HSET', key, 'answeredAt', now)
  redis.call('DEL', marks)
  if p.why == 'data-plane' then close() end
elseif kind == 'foreign' then
  redis.call('HSET', key, 'foreign', ARGV[5], 'foreignUntil', now + tonumber(ARGV[6]))
end
ledger.forget(name)
ledger.offer(name)
return 1
