-- include ready
-- What tenants have used, and what their shares are.
-- Accounts: 'vt credit mean held heaps base leftAt fresh', then for each queue ':name:used credit'. `heaps`: in how many Q:s it stands. `base`:
-- where a queue of it begins. `fresh`: 1 when it is still to begin at the present of what it gets a place of; else when it had its last turn, in ms.
-- Besides '::provider home' where it had its last turn, and '::provider vt ms' with what virtual time it left others, and when (`marks`): a queue has a name. And '::held n ms due':
-- of how many jobs in hand it is known until when what was charged for them pays, and the sum of these times (`due`).
--
-- Tenants take turns by virtual time: seconds of sandbox used, divided by the tenant's weight. It is one account for all queues; a
-- tenant's queues take turns among themselves by what each has used. A job is charged its tenant's mean when it is taken, and the difference
-- as time goes by and when it ends. Who comes back begins at the present, or where its debt ends; that halves every ten minutes. So does who could have no turn for a while
-- (it was paused, at its cap, without budget, or its queue was): others used what it left, and don't owe it that time.
-- Where providers have crowds of their own, as with jobs that allow one of them each, what is present drifts apart. A tenant that goes from one crowd to another takes
-- along what it owes there, not its total, and finds what it had owed here. Which it does, where the others have used less, once it has nothing in hand and nothing waiting but
-- there: one that is served elsewhere meanwhile has its share there, and its jobs keep their order.
-- Invariant: accounts only ever go up while something of theirs is listed (a refund is credit on later charges), so that a score in a heap is a
-- lower bound. One that is too low when it comes up is put right, and the next is looked at; a call does so at most `patience` times.
accounts.mostDebtors, accounts.halfLifeMs, accounts.forgetMs, accounts.mostDebt = 10000, 600000, 7200000, 86400
-- What passes between two accounts of a job that is in hand; more is a time in which nobody had it, or a clock that was set.
accounts.longestStepMs = 120000
-- Providers whose presents are so far apart, in seconds or jobs of a tenant, have crowds of their own.
accounts.apart = { seconds = 60, jobs = 2 }
accounts.known, accounts.shares, accounts.equalShare = {}, {}, { weight = 1 }
-- Unknown as yet: the virtual times that are present, and whether anything is said of shares.
accounts.present, accounts.anyShares = false, 'unknown'

-- lazily accounts
function accounts.parse(text)
  local a = { vt = 0, credit = 0, mean = 1, held = 0, heaps = 0, base = 0, leftAt = 0, fresh = 1, queues = {}, owed = {}, home = false, marks = {}, due = false }
  if text then
    local head, rest = string.match(text, '^([^:]*)(.*)$')
    local vt, credit, mean, held, heaps, from, leftAt, fresh = string.match(head, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    a.vt, a.credit, a.mean, a.held, a.heaps = tonumber(vt), tonumber(credit), tonumber(mean), tonumber(held), tonumber(heaps)
    a.base, a.leftAt, a.fresh = tonumber(from), tonumber(leftAt), tonumber(fresh)
    for q, used, owed in string.gmatch(rest, ':([^:]*):(%S+) ([^:]*)') do
      if q ~= '' then
        a.queues[q], a.owed[q] = tonumber(used), tonumber(owed)
      elseif owed == 'home' then
        a.home = used
      else
        local atVt, leftAt = string.match(owed, '^(%S+) (%S+)$')
        local n, ms = string.match(owed, '^(%d+) (%d+) due$')
        if atVt then a.marks[used] = { vt = tonumber(atVt), leftAt = tonumber(leftAt) } elseif n then a.due = { n = tonumber(n), ms = tonumber(ms) } end
      end
    end
  end
  return a
end

function accounts.of(name)
  local a = accounts.known[name]
  if a then return a end
  a = accounts.parse(call('HGET', R .. ':tenant', name))
  accounts.known[name] = a
  return a
end

-- Reads several at once.
function accounts.read(names)
  local texts = names[1] and call('HMGET', R .. ':tenant', unpack(names)) or {}
  for i, name in ipairs(names) do accounts.known[name] = accounts.known[name] or accounts.parse(texts[i]) end
end

function accounts.rounded(x) return math.floor(x * 1000 + 0.5) / 1000 end

-- Queues of one tenant are told apart far behind the point.
function accounts.scoreOf(a, q) return a.vt + (a.queues[q] or 0) * 1e-7 end
function accounts.text(score) return string.format('%.17g', score) end

-- A tenant's share { weight, cap, paused }: as configured, or as an operator said. One that is paused stands as at its cap.
function accounts.shareOf(name)
  if not accounts.shares[name] then
    -- Most often nothing is said of anybody.
    if accounts.anyShares == 'unknown' then accounts.anyShares = call('EXISTS', R .. ':shares', R .. ':set') > 0 end
    if not accounts.anyShares then return accounts.equalShare end
    local own, others = unpack(call('HMGET', R .. ':shares', name, '*'))
    local json = (name ~= '' and own) or (name ~= '*' and others)
    local share = json and cjson.decode(json) or { weight = 1 }
    local said = call('HGET', R .. ':set', name)
    for what, each in pairs(said and cjson.decode(said) or {}) do
      if each.untilMs and each.untilMs <= now then
        -- It is over; somebody takes it away soon.
      elseif what == 'share' then
        share.weight, share.cap = each.weight, each.cap or share.cap
      elseif what == 'pause' then
        share.paused = true
      end
    end
    if share.paused then share.cap = 0 end
    accounts.shares[name] = share
  end
  return accounts.shares[name]
end

-- The virtual times that are present at the providers, by their names.
function accounts.presents()
  if not accounts.present then
    accounts.present = {}
    local found = call('HGETALL', R .. ':present')
    for i = 1, #found, 2 do accounts.present[found[i]] = tonumber(found[i + 1]) end
  end
  return accounts.present
end

function accounts.leastPresent()
  local least = math.huge
  for _, vt in pairs(accounts.presents()) do least = math.min(least, vt) end
  return least < math.huge and least or 0
end

-- What a virtual time has come to, or is ahead of. A provider that has had no turn for long is far behind, and ahead of that everybody is.
function accounts.presentBehind(vt)
  local behind
  for _, each in pairs(accounts.presents()) do
    if each <= vt and each > (behind or -1) then behind = each end
  end
  return behind or accounts.leastPresent()
end

function accounts.save(name) accounts.saveAll({ name }) end

function accounts.saveAll(names)
  local texts, left, back = {}, {}, {}
  for _, name in ipairs(names) do
    local a = accounts.of(name)
    if a.held <= 0 and a.heaps <= 0 then
      a.held, a.heaps = 0, 0
      if a.leftAt == 0 then a.leftAt = now end
      left[#left + 1] = a.leftAt
      left[#left + 1] = name
    elseif a.leftAt ~= 0 then
      a.leftAt = 0
      back[#back + 1] = name
    end
    local parts = { string.format('%.3f %.3f %.3f %d %d %.3f %.0f %.0f', a.vt, a.credit, a.mean, a.held, a.heaps, a.base, a.leftAt, a.fresh) }
    if a.home then parts[#parts + 1] = '::' .. a.home .. ' home' end
    if a.due and a.held > 0 and a.due.n == a.held then parts[#parts + 1] = string.format('::held %d %.0f due', a.due.n, a.due.ms) end
    for provider, mark in pairs(a.marks) do parts[#parts + 1] = string.format('::%s %.3f %.0f', provider, mark.vt, mark.leftAt) end
    for q, used in pairs(a.queues) do parts[#parts + 1] = string.format(':%s:%.3f %.3f', q, used, a.owed[q] or 0) end
    texts[#texts + 1] = name
    texts[#texts + 1] = table.concat(parts)
  end
  if #left > 0 then call('ZADD', R .. ':debt', unpack(left)) end
  if #back > 0 then call('ZREM', R .. ':debt', unpack(back)) end
  if #texts > 0 then call('HSET', R .. ':tenant', unpack(texts)) end
end

-- Whoever has nothing waiting or in hand is forgotten once it owes nothing, or after long, or as the oldest of too many: two a call, where one is added.
function accounts.forgetDebtors()
  ready.flush()
  local debt = R .. ':debt'
  local oldest = call('ZRANGE', debt, 0, 1)
  local tooMany = oldest[1] and call('ZCARD', debt) > accounts.mostDebtors
  for _, name in ipairs(oldest) do
    local a = accounts.of(name)
    if tooMany or now - a.leftAt > accounts.forgetMs or (now - a.leftAt > accounts.halfLifeMs and a.vt <= accounts.leastPresent() and not next(a.marks)) then
      call('ZREM', debt, name)
      call('HDEL', R .. ':tenant', name)
      accounts.known[name] = nil
    end
  end
end

-- A tenant that had nothing waiting or in hand comes back. Nothing of it is listed, so that its credit can be taken off at once.
function accounts.comeBack(a, name)
  local present = accounts.leastPresent()
  a.vt, a.credit = accounts.rounded(a.vt - a.credit / accounts.shareOf(name).weight), 0
  if a.leftAt ~= 0 then
    local left = 0.5 ^ (math.max(0, now - a.leftAt) / accounts.halfLifeMs)
    local function decayed(vt, from) return accounts.rounded(from + math.min(vt - from, accounts.mostDebt) * left) end
    local from = a.home and accounts.presents()[a.home] or accounts.presentBehind(a.vt)
    if a.vt > from then a.vt = decayed(a.vt, from) end
    for provider, mark in pairs(a.marks) do
      local there = accounts.presents()[provider] or mark.vt
      if mark.vt > there then mark.vt = decayed(mark.vt, there) else a.marks[provider] = nil end
    end
  end
  a.vt = math.max(a.vt, present)
  a.fresh = 1
end

-- Whether what is present at a tenant's last provider is far from this, so that its virtual time says nothing of its turn here: 'ahead', 'behind' or false.
function accounts.isApart(a, present)
  local home = a.home and accounts.presents()[a.home]
  local far = math.max(accounts.apart.seconds, accounts.apart.jobs * a.mean)
  if not home or math.abs(home - present) <= far then return false end
  return home > present and 'ahead' or 'behind'
end

-- A tenant comes from one crowd to another, whose present is this one: it takes along what it owes there, and finds what it had owed here.
function accounts.move(a, present, providers, at)
  local owes = math.min(math.max(0, a.vt - accounts.presents()[a.home]), accounts.mostDebt)
  a.marks[a.home] = { vt = a.vt, leftAt = now }
  a.vt = accounts.rounded(present + owes)
  for _, provider in ipairs(providers) do
    a.vt = math.max(a.vt, a.marks[provider] and a.marks[provider].vt or 0)
    a.marks[provider] = nil
  end
  a.home = at
end

-- A tenant could have no turn for a while, and can again.
function accounts.beginAnew(name)
  local a = accounts.of(name)
  if a.fresh == 1 then return end
  a.fresh = 1
  accounts.save(name)
end

-- Charges a tenant, and of its queues this one; credit of either pays first.
function accounts.charge(a, q, weight, seconds)
  local paid = math.min(a.credit, seconds)
  a.credit = accounts.rounded(a.credit - paid)
  a.vt = accounts.rounded(a.vt + (seconds - paid) / weight)
  paid = math.min(a.owed[q] or 0, seconds)
  a.owed[q] = accounts.rounded((a.owed[q] or 0) - paid)
  a.queues[q] = accounts.rounded((a.queues[q] or a.base) + seconds - paid)
end

-- Until when what was charged for a job in hand pays, in ms.
function accounts.dueOf(h) return h.since + (h.accounted - h.used) * 1000 end

-- Of how many jobs that is known, and the sum: one more, one less, or others of as many. Earlier releases don't know of it, and leave it out of what they save: then it begins anew with
-- the first job in hand.
function accounts.countDue(a, more, ms)
  if more == 1 and a.held == 0 then a.due = { n = 0, ms = 0 } end
  if a.due and a.due.n ~= a.held then a.due = false end
  if a.due then a.due.n, a.due.ms = a.due.n + more, a.due.ms + ms end
end

-- How far a tenant's jobs in hand are past what was charged for them, in virtual time: it is charged to its account in steps, and counts at each choice. Rounded to what was charged
-- times a power of two: else all tenants would have to be put in order anew whenever time has passed.
function accounts.pending(a, weight)
  if not a.due or a.due.n ~= a.held or a.held <= 0 then return 0 end
  local seconds = math.min(a.due.n * now - a.due.ms, a.due.n * accounts.longestStepMs) / 1000 - a.credit
  local charged = a.due.n * math.max(1, a.mean)
  return seconds > charged / 2 and charged * 2 ^ math.floor(math.log(seconds / charged) / math.log(2) + 0.5) / weight or 0
end

-- Accounts for the time of a job in hand until now, as far as it is not accounted for.
function accounts.accrue(h)
  local a, due = accounts.of(h.tenant), accounts.dueOf(h)
  h.used = h.used + math.min(math.max(now - h.since, 0), accounts.longestStepMs) / 1000
  h.since = now
  if h.used > h.accounted then
    local weight = accounts.shareOf(h.tenant).weight
    accounts.charge(a, h.q, weight, h.used - h.accounted)
    -- Where it was before it is owed by what was begun there, too.
    for _, mark in pairs(a.marks) do
      if mark.leftAt > now - h.used * 1000 then mark.vt = accounts.rounded(mark.vt + (h.used - h.accounted) / weight) end
    end
    h.accounted = h.used
  end
  accounts.countDue(a, 0, accounts.dueOf(h) - due)
end

-- Settles a tenant's account of a job that was in hand.
function accounts.settle(id, h)
  call('HDEL', R .. ':held', id)
  accounts.accrue(h)
  local a = accounts.of(h.tenant)
  a.credit = accounts.rounded(a.credit + h.accounted - h.used)
  a.owed[h.q] = accounts.rounded((a.owed[h.q] or 0) + h.accounted - h.used)
  a.mean = math.max(0.05, a.mean * 0.8 + h.used * 0.2)
  accounts.countDue(a, -1, 0 - accounts.dueOf(h))
  a.held = math.max(0, a.held - 1)
  accounts.save(h.tenant)
  if call('EXISTS', R .. ':capped:' .. h.tenant, R .. ':debt') > 0 then
    views.uncap(h.tenant)
    accounts.forgetDebtors()
  end
end
