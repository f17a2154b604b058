-- The rules of the slot ledger; every ledger script includes this file.
-- KEYS[1], L, is the ledger, KEYS[2], R, the deployment's index of waiting jobs (see ready.lua), KEYS[3], I, the caller's queue's set of idle consumers:
--   L                    set: names of providers
--   L:provider:<name>    hash: what is configured (limit, cpuLimit, memoryLimit, rate, burst; '' for none; askedAt), what is in use
--                        (milliCpu, memoryMiB) and what was learned (see `read`); `drain` and `set`, JSON, are operators' (ledger-operate.lua)
--   L:starts:<name>      list: the latest start times in ms, at most 100
--   L:unreachable:<name> sorted set: living sandboxes that can't be reached -> ms at which that was told, at most 100, for a minute
--   L:leases:<name>      sorted set: lease id -> ms at which it expires, or +inf once a job holds it
--   L:waiters:<name>     sorted set: lease id -> rank * 2^32 + arrival
--   L:lease, L:waiter    hashes: lease id -> JSON
--   L:jobs               hash: whose a place is (src/store/slot-owners.ts; jobs by their ids among all queues) -> lease id
--   L:arrivals           counter
--   L:clock              Redis' time when it was last looked at, and what the deployment made of it; both in ms
-- Invariant after every script: whoever stands first among a provider's waiters and fits has been granted the place.
--
-- What a provider has room for is the least of: the configured limit less what others run in the same account (`foreign`,
-- from the reaper's listing); the learned ceiling, which an answer "limit reached" lowers by a tenth and time raises again;
-- the configured pool of vCPU and memory; the bucket of creates; and its circuit breaker:
--   closed --3 failures in a row--> open --its time is up--> half-open, one probe --created--> closed
--                                    ^------------- the probe failed, twice as long --'
-- It opens as well when three sandboxes that live can't be reached and none answers, until one does; and at the third answer "too many calls" in a row
-- without a create that succeeded, for as long as the provider says or for 2 s, ever longer. Once one has succeeded after that, creates have a pace: from 2 a
-- second it doubles every 2 s, as long as the provider doesn't object, and every 20 s from half of what it objected to.
-- An operator's limit stands in the place of the configured one; where an operator drains a provider, nothing is made. Either may have an end.
local L, R, I = KEYS[1], KEYS[2], KEYS[3]
-- What the files that scripts include offer stands in one table a file. A script declares its functions anew in each call, at some 0.2 µs each, of which it needs a few:
-- those behind a line `-- lazily TABLE`, up to the next one or the end of the file (src/store/scripts.ts), are declared when the table has not what is asked for. Of several such
-- parts of one table the first is declared first, so that what is seldom needed stands last; and what may be unknown is `false`, since asking for nil declares all.
local function lazily(offered, declare)
  local made = getmetatable(offered)
  if made then
    table.insert(made.parts, declare)
    return
  end
  local parts = { declare }
  setmetatable(offered, { parts = parts, __index = function(_, name)
    while parts[1] do
      table.remove(parts, 1)()
      if rawget(offered, name) ~= nil then break end
    end
    if not parts[1] then setmetatable(offered, nil) end
    return rawget(offered, name)
  end })
end
local ledger = {}
local time = redis.call('TIME')
local redisNow = time[1] * 1000 + math.floor(time[2] / 1000)

-- All times here are of a clock that never goes back, and at most so far on between two looks: Redis' own may be set, or be another machine's
-- after a failover. A consumer looks once a second, so that a longer gap is a step of that clock, or a time in which nobody was there.
-- It is the first write of every script: a Redis that is out of memory or read-only refuses the script here, before anything is half done. But whoever has no inboxes
-- to tell anybody by (ARGV[1]) only looks, and writes nothing, so that it can be seen how things stand when Redis takes nothing more.
ledger.looks = ARGV[1] == ''
local longestGapMs = 60000
local function steadyTime()
  local before, steady = string.match(redis.call('GET', L .. ':clock') or '', '^(%d+) (%d+)$')
  if not before then
    steady = redisNow
  else
    steady = tonumber(steady) + math.min(math.max(redisNow - tonumber(before), 0), longestGapMs)
  end
  if not ledger.looks then redis.call('SET', L .. ':clock', string.format('%.0f %.0f', redisNow, steady)) end
  return steady
end
local now = steadyTime()

local inboxPrefix, inboxTtl = ARGV[1], ARGV[2]

-- How fast a learned ceiling rises again: a fiftieth of the limit, at least one place, every so many ms.
ledger.ceilingStepMs = 5000
-- A probe that has brought no verdict by then no longer keeps others away: "too many calls" is answered at once.
ledger.probeMs, ledger.limitedProbeMs = 180000, 10000
-- A pace (creates a second) from which on there is none.
ledger.noPace = 100
-- A waiter that is too large for what is left of a pool lets smaller ones pass for so long; then the pool is kept for it.
ledger.patienceMs = 30000
-- Nobody has asked for a place at a provider for so long: no consumer has it any more.
ledger.goneMs = 600000
-- Of those that wait for a place so many are granted one or dropped in a call, and so many looked at that are too large.
ledger.mostGrants, ledger.mostUnfit = 64, 256
-- So many reservations that have expired are dropped in a call.
ledger.dropped, ledger.mostDropped = 0, 64

-- Providers as `read` found them; a script that changes one has to `forget` it.
ledger.known, ledger.waits = {}, 'unknown'

ledger.idlePrefix = string.match(I, '^(.*:)[^:]*$')
-- Of queues that were looked at: the consumers that are idle, those that are believed longest first.
ledger.idleOf = {}

function ledger.providerKey(name) return L .. ':provider:' .. name end
function ledger.leasesKey(name) return L .. ':leases:' .. name end
function ledger.forget(name) ledger.known[name] = nil end

function ledger.getLease(id)
  local text = redis.call('HGET', L .. ':lease', id)
  return text and cjson.decode(text) or nil
end

-- A provider as it is now: the fields of its hash, as numbers but for `probe` and `why`, and from them `effective` (places),
-- `rateNow` and `tokensNow` (creates). `drain` and `set`: what operators said, nil once it is over; `limit` is the one in force, `configured` that of the configuration.
function ledger.read(name)
  if ledger.known[name] then return ledger.known[name] end
  local p = { name = name }
  local values = redis.call('HGETALL', ledger.providerKey(name))
  for i = 1, #values, 2 do
    local field = values[i]
    if field == 'probe' or field == 'why' then
      p[field] = values[i + 1]
    elseif field == 'drain' or field == 'set' then
      local control = cjson.decode(values[i + 1])
      if not control.untilMs or control.untilMs > now then p[field] = control end
    else
      p[field] = tonumber(values[i + 1])
    end
  end
  -- What has expired is no more used; it goes before its place is taken, and at once where it still counts in a pool.
  p.used = redis.call('ZCOUNT', ledger.leasesKey(name), '(' .. now, '+inf')
  p.configured = p.limit or 0
  p.limit = p.set and p.set.limit or p.configured
  if not p.foreignUntil or p.foreignUntil <= now then p.foreign = 0 end
  p.effective = math.max(0, p.limit - (p.foreign or 0))
  if p.ceiling then
    local steps = math.floor((now - p.ceilingAt) / ledger.ceilingStepMs)
    p.effective = math.min(p.effective, p.ceiling + steps * math.max(1, math.ceil(p.limit / 50)))
  end
  if p.rate then
    -- A provider that says "too many calls" is called at half the rate, and at a tenth more of it every ten seconds.
    p.slowdownNow = math.min(1, (p.slowdown or 1) + (p.slowdownAt and (now - p.slowdownAt) / 100000 or 0))
    p.rateNow = p.rate * p.slowdownNow
    local most = p.burst or math.max(1, math.ceil(p.rate))
    p.tokensNow = math.min(most, (p.tokens or most) + (p.tokensAt and (now - p.tokensAt) / 1000 * p.rateNow or 0))
  elseif p.pace and p.paceAt and p.why ~= 'rate-limited' then
    local pace = p.pace * 2 ^ math.min(20, (now - p.paceAt) / p.paceDoublesMs)
    if pace < ledger.noPace then
      p.rateNow = pace
      p.tokensNow = math.min(math.max(1, math.ceil(pace)), (p.tokens or 1) + (p.tokensAt and (now - p.tokensAt) / 1000 * pace or 0))
    end
  end
  ledger.known[name] = p
  if p.cpuLimit or p.memoryLimit then
    if ledger.looks then
      ledger.discount(p)
    elseif ledger.expire(name) then
      return ledger.read(name)
    end
  end
  return p
end

-- 'closed', 'open', 'half-open' (the next place is the probe) or 'probing'.
function ledger.breaker(p)
  if not p.openUntil then return 'closed' end
  if p.openUntil > now then return 'open' end
  local probeMs = p.why == 'rate-limited' and ledger.limitedProbeMs or ledger.probeMs
  if p.probe and p.probeAt + probeMs > now and ledger.getLease(p.probe) then return 'probing' end
  return 'half-open'
end

-- 'fits', or why not: 'drained', 'open', 'full', 'throttled', or 'unfit' (only the pool's rest is too small for this demand).
function ledger.room(p, milliCpu, memoryMiB)
  if p.drain then return 'drained' end
  local state = ledger.breaker(p)
  if state == 'open' or state == 'probing' then return 'open' end
  if p.used >= p.effective then return 'full' end
  if (p.blockedUntil and p.blockedUntil > now) or (p.tokensNow and p.tokensNow < 1) then return 'throttled' end
  if p.cpuLimit and (p.milliCpu or 0) + milliCpu > p.cpuLimit then return 'unfit' end
  if p.memoryLimit and (p.memoryMiB or 0) + memoryMiB > p.memoryLimit then return 'unfit' end
  return 'fits'
end

-- Whether nothing new is made at a provider, until somebody or something changes that: it is drained, has no places at all, its breaker is open, or nobody has it any more.
function ledger.isOut(name)
  local p = ledger.read(name)
  return p.drain ~= nil or p.effective <= 0 or ledger.breaker(p) == 'open' or now - (p.askedAt or now) > ledger.goneMs
end

-- In how many ms a provider without room may have some although nobody gives a place back; nil for never.
function ledger.opensIn(p)
  if p.drain then return p.drain.untilMs and p.drain.untilMs - now or nil end
  local state = ledger.breaker(p)
  if state == 'open' then return p.openUntil - now end
  if state == 'probing' then return nil end
  if p.used >= p.effective then
    local over = p.set and p.set.untilMs and p.set.limit < p.configured and p.set.untilMs - now or nil
    if not p.ceiling or p.effective >= p.limit - (p.foreign or 0) then return over end
    return math.min(over or math.huge, ledger.ceilingStepMs - (now - p.ceilingAt) % ledger.ceilingStepMs)
  end
  if p.blockedUntil and p.blockedUntil > now then return p.blockedUntil - now end
  if p.tokensNow and p.tokensNow < 1 then return math.ceil((1 - p.tokensNow) / p.rateNow * 1000) end
  return nil
end

-- Whether anybody waits for a place: jobs that lost theirs, as a rule nobody.
function ledger.anyWaits()
  if ledger.waits == 'unknown' then ledger.waits = redis.call('EXISTS', L .. ':waiter') == 1 end
  return ledger.waits
end

-- Gives a provider's free places to its waiters, the first who fits first. `own` learns of its grant by the script's answer, everybody else by the inbox. Returns whether what is
-- left is kept for a waiter. Where very many are granted or gone (a limit was raised, many consumers died) a call does a part: what is left is kept for the rest, and
-- `ledger.more` says that there is one.
function ledger.grant(name, own)
  if not ledger.anyWaits() then return false end
  local first, done = 0, 0
  while true do
    local ids = redis.call('ZRANGE', ledger.waitersKey(name), first, first + 99)
    if #ids == 0 then return false end
    for _, id in ipairs(ids) do
      local waiter = ledger.getWaiter(id)
      local answer = waiter and waiter.expiresAt > now and ledger.room(ledger.read(name), waiter.milliCpu, waiter.memoryMiB)
      if not answer or answer == 'fits' then
        if done == ledger.mostGrants then
          ledger.more = true
          return true
        end
        done = done + 1
      end
      if not waiter then
        redis.call('ZREM', ledger.waitersKey(name), id)
      elseif not answer then
        ledger.dropWaiter(id, waiter)
      elseif answer == 'fits' then
        ledger.dropWaiter(id, waiter)
        ledger.take(id, name, waiter.holder, waiter.milliCpu, waiter.memoryMiB, waiter.ttl)
        if id ~= own then ledger.tell(waiter.holder, { kind = 'grant', leaseId = id, provider = name }) end
      elseif answer ~= 'unfit' then
        return false
      elseif now - (waiter.since or now) > ledger.patienceMs then
        return true
      else
        first = first + 1
        -- Those behind so many wait until the pool is kept for one of these.
        if first == ledger.mostUnfit then return false end
      end
    end
  end
end

-- A view of the index (see ready.lua) by its name: queue, epoch, view id.
function ledger.parseView(name) return string.match(name, '^([^:]*):(%d+):(.*)$') end

-- The configured limits of whoever asked last hold for all: they come from configuration, which is the same everywhere but
-- during a rolling change of it. They are written when they are others, and once a minute to say that somebody still asks; those that nobody asks for go then.
function ledger.configure(limits)
  for _, each in ipairs(limits) do
    local name = each.provider
    local p = ledger.read(name)
    if p.configured ~= each.sandboxes or p.cpuLimit ~= each.milliCpu or p.memoryLimit ~= each.memoryMiB or p.rate ~= each.createsPerSecond
      or p.burst ~= each.createBurst or now - (p.askedAt or 0) > 60000 then
      redis.call('SADD', L, name)
      redis.call('HSET', ledger.providerKey(name), 'limit', each.sandboxes, 'cpuLimit', each.milliCpu or '', 'memoryLimit', each.memoryMiB or '',
        'rate', each.createsPerSecond or '', 'burst', each.createBurst or '', 'askedAt', now)
      ledger.forget(name)
      ledger.expire(name)
      for _, other in ipairs(redis.call('SMEMBERS', L)) do
        if ledger.isOver(ledger.read(other)) then
          redis.call('SREM', L, other)
          redis.call('DEL', ledger.providerKey(other), L .. ':starts:' .. other)
          ledger.forget(other)
        end
      end
    end
  end
end

-- lazily ledger: places that are taken and come free, and who is told.
-- `owns`: whether its job is known to have no other place.
function ledger.dropLease(id, lease, owns)
  redis.call('ZREM', ledger.leasesKey(lease.provider), id)
  redis.call('HDEL', L .. ':lease', id)
  if lease.milliCpu ~= 0 then redis.call('HINCRBY', ledger.providerKey(lease.provider), 'milliCpu', 0 - lease.milliCpu) end
  if lease.memoryMiB ~= 0 then redis.call('HINCRBY', ledger.providerKey(lease.provider), 'memoryMiB', 0 - lease.memoryMiB) end
  if lease.jobId and (owns or redis.call('HGET', L .. ':jobs', lease.jobId) == id) then redis.call('HDEL', L .. ':jobs', lease.jobId) end
  ledger.forget(lease.provider)
end

-- Reserves a place for so long; with a job { its id among all queues, BullMQ's key of it } it is that one's own, and does not expire.
function ledger.take(id, name, holder, milliCpu, memoryMiB, ttl, job)
  ledger.expire(name)
  local p = ledger.read(name)
  job = job or {}
  redis.call('ZADD', ledger.leasesKey(name), job[1] and '+inf' or now + ttl, id)
  redis.call('HSET', L .. ':lease', id, cjson.encode({ provider = name, holder = holder, milliCpu = milliCpu, memoryMiB = memoryMiB, jobId = job[1], job = job[2] }))
  if job[1] then redis.call('HSET', L .. ':jobs', job[1], id) end
  local changes = {}
  local function set(field, value)
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
  if milliCpu ~= 0 then set('milliCpu', (p.milliCpu or 0) + milliCpu) end
  if memoryMiB ~= 0 then set('memoryMiB', (p.memoryMiB or 0) + memoryMiB) end
  if p.tokensNow then
    set('tokens', string.format('%.6f', p.tokensNow - 1))
    set('tokensAt', now)
  end
  if ledger.breaker(p) == 'half-open' then
    set('probe', id)
    set('probeAt', now)
  end
  if #changes > 0 then
    redis.call('HSET', ledger.providerKey(name), unpack(changes))
    ledger.forget(name)
  else
    p.used = p.used + 1
  end
end

-- Drops reservations whose holder went away without binding them, so many in a call: the rest counts for no place meanwhile, and in a pool until the next calls. Returns whether there was one.
function ledger.expire(name)
  if ledger.dropped == ledger.mostDropped then return false end
  local expired = redis.call('ZRANGEBYSCORE', ledger.leasesKey(name), '-inf', now, 'LIMIT', 0, ledger.mostDropped - ledger.dropped)
  ledger.dropped = ledger.dropped + #expired
  for _, id in ipairs(expired) do
    local lease = ledger.getLease(id)
    if lease then ledger.dropLease(id, lease) else redis.call('ZREM', ledger.leasesKey(name), id) end
    ledger.forget(name)
  end
  return #expired > 0
end

function ledger.tell(holder, message)
  local inbox = inboxPrefix .. holder
  redis.call('RPUSH', inbox, cjson.encode(message))
  redis.call('PEXPIRE', inbox, inboxTtl)
end

-- The consumers of a queue that are idle, those first that are believed longest: 64 at most.
function ledger.idlest(q)
  ledger.idleOf[q] = ledger.idleOf[q] or redis.call('ZREVRANGEBYSCORE', ledger.idlePrefix .. q, '+inf', '(' .. now, 'LIMIT', 0, 64)
  return ledger.idleOf[q]
end

-- The view of each of them, false where it is not known.
function ledger.idleViews(q)
  local idlest = ledger.idlest(q)
  if not idlest.views then idlest.views = idlest[1] and redis.call('HMGET', ledger.idlePrefix .. q .. ':view', unpack(idlest)) or {} end
  return idlest.views
end

-- The first of them with that view; nil for none.
function ledger.idleConsumer(q, view)
  local idlest = ledger.idlest(q)
  for i, known in ipairs(ledger.idleViews(q)) do
    if known == view then return idlest[i] end
  end
  return nil
end

-- Nothing is kept of a consumer that is not idle, nor of those of the caller's queue that have not said for long that they are.
function ledger.notIdle(idle, holders)
  if redis.call('ZREM', idle, unpack(holders)) == 0 then return end
  local fields = {}
  for i, holder in ipairs(holders) do fields[2 * i - 1], fields[2 * i] = holder, 'room:' .. holder end
  redis.call('HDEL', idle .. ':view', unpack(fields))
end

function ledger.expireIdle()
  local gone = redis.call('ZRANGEBYSCORE', I, '-inf', now, 'LIMIT', 0, 1000)
  if gone[1] then ledger.notIdle(I, gone) end
end

-- Until when a consumer counts as idle that has been given a job: it is believed less than all that have looked since, so that many jobs that come at once are spread. Nil for
-- one that has been given so many that it is to look, and say how it stands, and for one that has not read what it was told before: it may be frozen, or dead.
function ledger.lessIdle(idle, holder)
  if redis.call('LLEN', inboxPrefix .. holder) > 0 then return nil end
  local left = tonumber(redis.call('ZSCORE', idle, holder) or now) - now
  left = left > 1500 and left - 1000 or left - 20
  return left > 500 and now + left or nil
end

-- Tells an idle consumer that there is something for it; nil for one that was idle when the choice was made, and has been told since. `given` { jobId, provider }: what was chosen
-- for it, with its place, so that it needs no look; where it has room for more it stays idle, and otherwise it says itself when it is again.
function ledger.wake(q, holder, given)
  if not holder then return end
  local idle, viewsOfIdle = ledger.idlePrefix .. q, ledger.idlePrefix .. q .. ':view'
  ledger.idleOf[q] = nil
  local room = given and tonumber(redis.call('HGET', viewsOfIdle, 'room:' .. holder) or '0') or 0
  local untilMs = room > 1 and ledger.lessIdle(idle, holder)
  if untilMs then
    redis.call('HSET', viewsOfIdle, 'room:' .. holder, room - 1)
    redis.call('ZADD', idle, untilMs, holder)
  else
    ledger.notIdle(idle, { holder })
  end
  ledger.tell(holder, { kind = 'work', given = given and { jobId = given.jobId, provider = given.provider, idle = untilMs and true or false } or nil })
end

-- Gives free places to waiters; if there are more, and jobs wait that may use them, an idle consumer of theirs is woken, of whoever's turn it is.
function ledger.offer(name)
  if ledger.grant(name) or ledger.room(ledger.read(name), 0, 0) ~= 'fits' then return end
  for _, each in ipairs(redis.call('ZRANGE', R .. ':at:' .. name, 0, 15)) do
    local q, _, view = ledger.parseView(each)
    local holder = q and ledger.idleConsumer(q, view)
    if holder then return ledger.wake(q, holder) end
  end
end

-- lazily ledger: waiters, and what people are shown.
-- For people: a time by Redis' clock, or what an operator said, with its end by that clock.
function ledger.shown(what)
  if type(what) ~= 'table' then return what and what + redisNow - now end
  local copy = {}
  for field, value in pairs(what) do copy[field] = value end
  copy.untilMs = what.untilMs and what.untilMs + redisNow - now
  return copy
end

function ledger.waitersKey(name) return L .. ':waiters:' .. name end

function ledger.getWaiter(id)
  local text = redis.call('HGET', L .. ':waiter', id)
  return text and cjson.decode(text) or nil
end

function ledger.dropWaiter(id, waiter)
  for _, name in ipairs(waiter.candidates) do redis.call('ZREM', ledger.waitersKey(name), id) end
  redis.call('HDEL', L .. ':waiter', id)
end

-- Wakes up to so many idle consumers of the caller's queue, those that are believed longest. `askedOf(view)`: what one is asked with it, or nil.
-- Returns them.
function ledger.wakeIdle(most, askedOf)
  ledger.expireIdle()
  local woken = {}
  ledger.idleOf = {}
  for i, holder in ipairs(redis.call('ZPOPMAX', I, most)) do
    if i % 2 == 1 then
      local view = redis.call('HGET', I .. ':view', holder)
      redis.call('HDEL', I .. ':view', holder, 'room:' .. holder)
      ledger.tell(holder, { kind = 'work', asked = askedOf and view and askedOf(view) or nil })
      woken[#woken + 1] = holder
    end
  end
  return woken
end

-- As `expire`, for who only looks: what has expired is no more used.
function ledger.discount(p)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ledger.leasesKey(p.name), '-inf', now)) do
    local lease = ledger.getLease(id)
    if lease then p.milliCpu, p.memoryMiB = (p.milliCpu or 0) - lease.milliCpu, (p.memoryMiB or 0) - lease.memoryMiB end
  end
end

-- How many wait for a place there. Who only looks finds among the first some that have expired, and were not dropped yet.
function ledger.waitingAt(name)
  local waiting = redis.call('ZCARD', ledger.waitersKey(name))
  for _, id in ipairs(ledger.looks and redis.call('ZRANGE', ledger.waitersKey(name), 0, 99) or {}) do
    local waiter = ledger.getWaiter(id)
    if not waiter or waiter.expiresAt <= now then waiting = waiting - 1 end
  end
  return waiting
end

-- A provider that is in no consumer's configuration any more is forgotten after a day, unless an operator's word holds for it.
function ledger.isOver(p)
  return p.askedAt and now - p.askedAt > 86400000 and p.used == 0 and not p.drain and not p.set
end

function ledger.load(p)
  return {
    provider = p.name,
    limit = p.limit,
    configuredLimit = p.configured,
    drain = ledger.shown(p.drain),
    set = ledger.shown(p.set),
    effectiveLimit = p.effective,
    foreign = p.foreign or 0,
    used = p.used,
    waiting = ledger.anyWaits() and ledger.waitingAt(p.name) or 0,
    milliCpuLimit = p.cpuLimit or cjson.null,
    memoryMiBLimit = p.memoryLimit or cjson.null,
    milliCpu = p.milliCpu or 0,
    memoryMiB = p.memoryMiB or 0,
    breaker = ledger.breaker(p),
    openUntilMs = ledger.shown(p.openUntil) or cjson.null,
    openedBy = p.why or cjson.null,
    createsPerSecond = p.rateNow or cjson.null,
    blockedUntilMs = (p.blockedUntil and p.blockedUntil > now) and ledger.shown(p.blockedUntil) or cjson.null,
    startP50Ms = p.p50 or cjson.null,
    startP95Ms = p.p95 or cjson.null,
    startMaxMs = p.slowest or cjson.null,
  }
end

function ledger.loadsOf(names)
  if #names == 0 then return '[]' end
  local loads = {}
  for _, name in ipairs(names) do loads[#loads + 1] = ledger.load(ledger.read(name)) end
  return cjson.encode(loads)
end
