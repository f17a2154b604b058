-- include unpaid
-- Keys of concurrency: of the jobs that share one, at most so many are in consumers' hands, in all queues of the deployment.
--   R:key:<key>:in       sorted set: '<queue>:<job id>' -> its limit, of the jobs that hold the key
--   R:key:<key>:queues   set: queues in which jobs wait for it
--   R:key:<key>:rests    sorted set: '<queue>:<job id>' -> its number, of those that have begun and gave it up because they are parked for a budget
--   R:key:<key>:strict   hash: queue -> '<number> <limit>' of the first in its line, where that lets fewer run than those that hold the key do
--   R:keyed              hash: '<queue>:<job id>' -> '<key> <number>' of a job that holds one; '~<key>' of one that rests; '!' and why of one that is superseded and has
--                        not ended
--   R:arrivals           numbers the jobs that have a key, as they come
--   Q:j:!<key>:<group>   a part of the line: job id -> BullMQ's score, of those that are parked; a group is '<shape>:<tenant>', and `!<key>` a shape that no view is
--                        ever asked about
--   Q:line:<key>         sorted set: group -> the first score of its part
--   Q:front              hash: job id -> key, of those that are listed as others are: as many of the first as the key has room for; '<key> <group>' of one that stands aside
--   Q:f:<key>            sorted set: the same jobs, of one key -> BullMQ's score, but for those that stand aside, which are in Q:aside:<key>
--   Q:aside              hash: '<key> <group>' -> the job that stands aside for it; the rest of such a group is out of Q:line
--   Q:over               hash: key -> '<number> <why>': what came before that number and is in the line yet is superseded
-- <key> is a digest of what the user wrote. The field `syk` of BullMQ's hash of a job is what is to be known to list it: see `keyed.arrive`.
--
--   arrives ──► in the line ──► at the front ──► given, holds the key ──► out of hand: the next of each line comes to its front
--      │            │  ◄── full when it comes up ──┘         │
--      └─ dropped ──┴──────────── superseded ◄───────────────┘ by a newer one; it can neither push to its branch nor promote any more
--
-- Only what is in hand holds a key, so that nothing that waits (in a paused queue, for a full provider) keeps it from others. A job that pushes or promotes
-- already is not superseded: it goes through, and the newer one waits for it. In a line jobs stand by priority and arrival. One that rests is superseded as those are that
-- wait: it would go on, and push, after the newer one.
-- What can't be given, whatever comes free (its tenant is paused, at its cap or without budget, nobody runs its shape, its providers are drained), stands aside: the
-- first of its group stays listed, so that its turn comes as any other's once it can be given, and those behind the group come to the front meanwhile.
keyed.keptMs, keyed.restsMs, keyed.strictMs, keyed.mostHolders, keyed.mostQueues, keyed.mostAsides = 604800000, 2764800000, 600000, 64, 16, 8
keyed.superseded, keyed.some, keyed.believed = {}, {}, {}

-- lazily keyed: what is asked where no job has a key, too.
function keyed.infoOf(q, jobId)
  local json = call('HGET', bull(q, jobId), 'syk')
  return json and cjson.decode(json)
end

-- Whether any job has a key, as far as a queue is concerned. Most deployments have none: it is asked once in a script.
function keyed.any(q)
  if keyed.some[q] == nil then keyed.some[q] = call('EXISTS', keyOf(q, 'front'), R .. ':keyed') > 0 end
  return keyed.some[q]
end

-- It is at the front no more. Returns its key; nil when it was not there.
function keyed.forget(q, jobId)
  if not keyed.any(q) then return nil end
  local at = call('HGET', keyOf(q, 'front'), jobId)
  if not at then return nil end
  local key, group = string.match(at, '^(%x+) ?(.*)$')
  call('HDEL', keyOf(q, 'front'), jobId)
  call('ZREM', keyOf(q, 'f:' .. key), jobId)
  if group ~= '' then
    call('ZREM', keyOf(q, 'aside:' .. key), jobId)
    call('HDEL', keyOf(q, 'aside'), at)
    keyed.stand(q, key, group)
  end
  return key
end

-- As `forget`, and the next one comes there.
function keyed.gone(q, jobId)
  local key = keyed.forget(q, jobId)
  if key then keyed.fill(q, key) end
end

-- A job is out of hand.
function keyed.release(q, jobId)
  if not keyed.any(q) then return end
  local member = q .. ':' .. jobId
  local standing = call('HGET', R .. ':keyed', member)
  if not standing then return end
  call('HDEL', R .. ':keyed', member)
  local key, rests = string.match(standing, '^(%x+) %d+$'), string.match(standing, '^~(%x+)$')
  if rests then
    call('ZREM', keyed.resting(rests), member)
    return
  end
  if not key then
    -- It was superseded, and so may be more behind it than one call looks at: each that ends brings up the next ones.
    local info = keyed.infoOf(q, jobId)
    if info and call('HEXISTS', keyOf(q, 'over'), info.key) == 1 then keyed.fill(q, info.key) end
    return
  end
  call('ZREM', keyed.holders(key), member)
  for _, each in ipairs(call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)) do keyed.fill(each, key) end
end

-- lazily keyed: what is of jobs that have one.
function keyed.holders(key) return R .. ':key:' .. key .. ':in' end
function keyed.queues(key) return R .. ':key:' .. key .. ':queues' end
function keyed.resting(key) return R .. ':key:' .. key .. ':rests' end
function keyed.strict(key) return R .. ':key:' .. key .. ':strict' end
function keyed.line(q, key) return keyOf(q, 'line:' .. key) end
function keyed.part(q, key, group) return ready.jobsKey(q, '!' .. key, group) end
function keyed.groupOf(info) return info.shape .. ':' .. info.tenant end

-- Whether that is said by a job of this part, not by another that has come under the id of one that is gone from it.
function keyed.isOf(info, key, group) return info.key == key and (group == '' or keyed.groupOf(info) == group) end

-- How many more may hold a key, one with this limit among them.
function keyed.room(key, limit)
  local least = call('ZRANGE', keyed.holders(key), 0, 0, 'WITHSCORES')[2]
  return math.min(limit, tonumber(least) or limit) - call('ZCARD', keyed.holders(key))
end

-- As many for a job of a queue: where one of another queue has come before it and lets fewer run, these are to become as few, or that one would wait for ever. Not for a paused queue's,
-- nor where nothing waits in its line any more, as once the queue was obliterated.
function keyed.roomIn(q, key, info)
  local room = keyed.room(key, info.limit)
  local strict = room > 0 and call('HGETALL', keyed.strict(key)) or {}
  for i = 1, #strict, 2 do
    local number, limit = string.match(strict[i + 1], '^(%d+) (%d+)$')
    local waits = strict[i] ~= q and tonumber(number) < info.number and call('EXISTS', keyed.line(strict[i], key)) == 1
    if waits and call('HEXISTS', bull(strict[i], 'meta'), 'paused') == 0 then
      room = math.min(room, tonumber(limit) - call('ZCARD', keyed.holders(key)))
    end
  end
  return room
end

-- Says so of the first in a queue's line, or that it is not so (any more). It is said again with each end, and with sweeps.
function keyed.insist(q, key, info)
  local most = info and tonumber(call('ZREVRANGE', keyed.holders(key), 0, 0, 'WITHSCORES')[2])
  if not most or most <= info.limit then return call('HDEL', keyed.strict(key), q) end
  call('HSET', keyed.strict(key), q, string.format('%.0f %d', info.number, info.limit))
  call('PEXPIRE', keyed.strict(key), keyed.strictMs)
end

-- A holder that nobody has in hand and BullMQ is done with: its end went past this index.
function keyed.isDead(member)
  local q, jobId = string.match(member, '^([^:]*):(.*)$')
  if call('HEXISTS', R .. ':held', ids.run(q, jobId)) == 1 then return false end
  local known = call('HMGET', bull(q, jobId), 'timestamp', 'finishedOn')
  return not known[1] or known[2] ~= false
end

-- Takes the key from holders that are dead. Returns whether there was one.
function keyed.prune(key)
  local found = false
  for _, member in ipairs(call('ZRANGE', keyed.holders(key), 0, 3)) do
    if keyed.isDead(member) then
      call('ZREM', keyed.holders(key), member)
      call('HDEL', R .. ':keyed', member)
      found = true
    end
  end
  return found
end

function keyed.enter(q, jobId, key)
  local info = keyed.infoOf(q, jobId) or { limit = 1, number = call('INCR', R .. ':arrivals') }
  call('ZADD', keyed.holders(key), info.limit, q .. ':' .. jobId)
  call('HSET', R .. ':keyed', q .. ':' .. jobId, key .. ' ' .. string.format('%.0f', info.number))
  keyed.some = {}
  -- They were in hand when it came, or too many.
  if info.after ~= 'cancel-running' then return end
  local resting = keyed.olderResting(key, info.number, keyed.mayEnd())
  for i = 1, math.min(#resting, #resting - keyed.room(key, info.limit)) do keyed.endResting(resting[i], key, 'superseded by job ' .. jobId) end
end

-- Into the line; it stands nowhere else in the index.
function keyed.park(q, key, group, jobId, score)
  ready.list(q, jobId, '!' .. key, group, score, {})
  ready.flush()
end

function keyed.unpark(q, key, group, jobId)
  if call('ZREM', keyed.part(q, key, group), jobId) == 0 then return end
  ready.count(q, -1)
  ready.leave(q, '!' .. key, group)
end

-- A part of a line has changed: where it stands follows. The one that stands aside for it is the first of its group.
function keyed.stand(q, key, group)
  local part = keyed.part(q, key, group)
  local head, first = unpack(call('ZRANGE', part, 0, 0, 'WITHSCORES'))
  local aside = head and call('HGET', keyOf(q, 'aside'), key .. ' ' .. group)
  if not head then
    call('ZREM', keyed.line(q, key), group)
  elseif not aside then
    call('ZADD', keyed.line(q, key), first, group)
  else
    local score = call('ZSCORE', keyOf(q, 'aside:' .. key), aside)
    local info = keyed.infoOf(q, head)
    if not score or not ready.listedAt(q, aside) then return keyed.forget(q, aside) end
    call('ZREM', keyed.line(q, key), group)
    if not info or not keyed.isOf(info, key, group) or tonumber(score) <= tonumber(first) then return end
    -- It is listed before the other is not, so that the shape stays known.
    call('ZREM', part, head)
    ready.count(q, -1)
    ready.list(q, head, info.shape, info.tenant, first, {})
    ready.flush()
    keyed.setAside(q, key, group, head, first)
    call('HDEL', keyOf(q, 'front'), aside)
    call('ZREM', keyOf(q, 'aside:' .. key), aside)
    ready.unlist(q, aside, true)
    keyed.park(q, key, group, aside, score)
  end
end

-- From the line to the front, or aside.
function keyed.advance(q, key, jobId, info, score, aside)
  keyed.unpark(q, key, keyed.groupOf(info), jobId)
  ready.enterShape(q, info.shape, info.json, info.milliCpu, info.memoryMiB)
  local dirty = {}
  ready.list(q, jobId, info.shape, info.tenant, score, dirty)
  if aside then
    keyed.stepAside(q, key, keyed.groupOf(info), jobId, score)
  else
    call('HSET', keyOf(q, 'front'), jobId, key)
    keyed.some = {}
    call('ZADD', keyOf(q, 'f:' .. key), score, jobId)
  end
  ready.placeDirty(q, dirty)
  keyed.advanced = true
end

function keyed.setAside(q, key, group, jobId, score)
  call('HSET', keyOf(q, 'front'), jobId, key .. ' ' .. group)
  keyed.some = {}
  call('ZADD', keyOf(q, 'aside:' .. key), score, jobId)
  call('HSET', keyOf(q, 'aside'), key .. ' ' .. group, jobId)
end

function keyed.stepAside(q, key, group, jobId, score)
  call('ZREM', keyOf(q, 'f:' .. key), jobId)
  keyed.setAside(q, key, group, jobId, score)
  keyed.stand(q, key, group)
end

-- Whether some consumer of a view is believed to be there (roster-announce.lua). A view's id is that of its consumers' profile and a digest of what is around them; where the
-- roster knows of nobody, as after its loss, everybody counts as there.
function keyed.profileOf(view) return string.match(view, '^(.*)%-%x+$') or view end

function keyed.isThere(view)
  local profile = keyed.profileOf(view)
  if keyed.believed[profile] == nil then
    local live = string.gsub(L, ':ledger$', ':consumers') .. ':live'
    local untilMs = call('ZSCORE', live, profile)
    keyed.believed[profile] = (untilMs and tonumber(untilMs) > redisNow) or call('ZCOUNT', live, '(' .. string.format('%.0f', redisNow), '+inf') == 0
  end
  return keyed.believed[profile]
end

-- A consumer of a view would take something now. It may be there before the roster hears of it again, as after a step of Redis' clock: what is parked for it now would step aside at
-- once, come up and be parked again, and so on.
function keyed.isHere(view) keyed.believed[keyed.profileOf(view)] = true end

-- Whether a tenant's jobs of a shape can't be given, whatever comes free: see at the top. Not as long as somebody has not said whether it can run the shape.
function keyed.isHeld(q, shape, name)
  local cap = accounts.shareOf(name).cap
  if cap and accounts.of(name).held - (keyed.leaving == name and 1 or 0) >= cap then return true end
  local number, all = tonumber(call('ZSCORE', keyOf(q, 'shapes'), shape) or math.huge), views.of(q)
  for _, view in ipairs(all) do
    local class = views.classOf(q, view, shape)
    if not class then
      if tonumber(call('HGET', keyOf(q, 'mapped'), view) or '0') < number and keyed.isThere(view) then return false end
    elseif not unpaid.holds(q, view, shape, name) then
      for _, group in ipairs(views.classAt(q, view, class)[1]) do
        for _, provider in ipairs(group) do
          local p = ledger.read(provider)
          if not p.drain and p.limit > 0 and keyed.isThere(view) then return false end
        end
      end
    end
  end
  return #all > 0
end

-- Of the first at the front, so many, those that are held step aside for what is in the line.
function keyed.letPass(q, key, most)
  local first = call('ZRANGE', keyOf(q, 'f:' .. key), 0, most - 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    local jobId, score = first[i], first[i + 1]
    local shape, name = ready.listedAt(q, jobId)
    if not shape then
      -- It is gone, or was given around this.
      keyed.forget(q, jobId)
    elseif keyed.isHeld(q, shape, name) then
      local group = shape .. ':' .. name
      if call('HEXISTS', keyOf(q, 'aside'), key .. ' ' .. group) == 0 then
        keyed.stepAside(q, key, group, jobId, score)
      else
        keyed.sendBack(q, key, group, jobId, score)
      end
    end
  end
end

-- A tenant's jobs of a shape were found to be held: those at the front among the first few make way at once, others with a sweep.
function keyed.makeWay(q, shape, name)
  for _, jobId in ipairs(call('ZRANGE', ready.jobsKey(q, shape, name), 0, 1)) do
    local key = string.match(call('HGET', keyOf(q, 'front'), jobId) or '', '^%x+$')
    if key then keyed.fill(q, key) end
  end
end

-- From the front back into the line.
function keyed.sendBack(q, key, group, jobId, score)
  ready.unlist(q, jobId, true)
  keyed.forget(q, jobId)
  keyed.park(q, key, group, jobId, score)
end

-- A job that has come again, and whose last run stays the one that counts, is taken as it is. `known`: what was known of it before, which tells that from its next run.
function keyed.putBack(q, jobId, known, other)
  if known then call('HSET', bull(q, jobId), 'syk', cjson.encode(known)) else call('HDEL', bull(q, jobId), 'syk') end
  call('ZREM', keyOf(q, 'deadline'), jobId)
  call('ZREM', bull(q, 'prioritized'), jobId)
  call('HSET', bull(q, jobId), 'sy', '-')
  call('RPUSH', bull(q, 'wait'), jobId)
  for _, each in ipairs({ '', jobId, other }) do keyed.superseded[#keyed.superseded + 1] = each end
end

-- A job that waits is taken to be ended as cancelled, by whoever looks next; the caller may be faster.
function keyed.supersede(q, jobId, why)
  local key = keyed.forget(q, jobId)
  ready.unlist(q, jobId)
  if key then keyed.quiet(q, key) end
  -- One that is dropped as it comes is not listed yet.
  call('ZREM', keyOf(q, 'deadline'), jobId)
  -- One that was given priority 0 stands in BullMQ's wait list until a look finds it there.
  if call('ZREM', bull(q, 'prioritized'), jobId) == 0 and call('LREM', bull(q, 'wait'), -1, jobId) == 0 then return end
  call('HSET', R .. ':keyed', q .. ':' .. jobId, '!' .. why)
  ready.endSoon(q, jobId)
  keyed.some = {}
  call('HSET', bull(q, jobId), 'sy', '-')
  call('RPUSH', bull(q, 'wait'), jobId)
  for _, each in ipairs({ q, jobId, why }) do keyed.superseded[#keyed.superseded + 1] = each end
end

-- A job that has begun leaves the consumers' hands with its key, and waits to be gone on with.
function keyed.rest(q, jobId, key)
  local info = keyed.infoOf(q, jobId)
  if not info or info.key ~= key then return end
  local member = q .. ':' .. jobId
  call('ZADD', keyed.resting(key), string.format('%.0f', info.number), member)
  call('PEXPIRE', keyed.resting(key), keyed.restsMs)
  call('HSET', R .. ':keyed', member, '~' .. key)
  keyed.some = {}
end

-- One that rests is asked to end as cancelled, and taken next.
function keyed.endResting(each, key, why)
  local q, jobId = each.q, each.jobId
  local run = runPrefix .. ids.run(q, jobId)
  call('ZREM', keyed.resting(key), q .. ':' .. jobId)
  call('HDEL', R .. ':keyed', q .. ':' .. jobId)
  local known = call('HMGET', run, 'generation', 'result')
  if not known[1] or known[2] or call('EXISTS', bull(q, jobId)) == 0 then return end
  call('HSETNX', run, 'cancelReason', why)
  call('HSETNX', run, 'cancelAtMs', string.format('%.0f', redisNow))
  local holder = ready.endNext(q, jobId) and ledger.idlest(q)[1]
  if holder then ledger.wake(q, holder) end
  for _, text in ipairs({ q, jobId, why }) do keyed.superseded[#keyed.superseded + 1] = text end
end

-- How many more this call supersedes.
function keyed.mayEnd() return math.max(0, ready.patience - #keyed.superseded / 3) end

-- Some of those that are parked, group by group.
function keyed.firstParked(q, key, most)
  local found = {}
  for _, group in ipairs(call('ZRANGE', keyed.line(q, key), 0, most - 1)) do
    for _, jobId in ipairs(call('ZRANGE', keyed.part(q, key, group), 0, most - #found - 1)) do found[#found + 1] = jobId end
    if #found >= most then break end
  end
  return found
end

-- By why a job that waits is superseded, by one that had too many before it to look at; nil when it is not.
function keyed.isOver(q, key, info)
  local number, why = string.match(call('HGET', keyOf(q, 'over'), key) or '', '^(%d+) (.*)$')
  return number and info.number < tonumber(number) and why or nil
end

-- Those of a line that came before a job: what stands aside, behind that, in the line and at its front; so many of each. `cut`: there may be more.
function keyed.olderIn(q, key, number, most)
  local found, cut = {}, false
  local function look(jobIds)
    cut = cut or #jobIds > most
    for _, jobId in ipairs(jobIds) do
      local other = keyed.infoOf(q, jobId)
      if other and other.key == key and other.number < number then found[#found + 1] = { q = q, jobId = jobId, number = other.number } end
    end
  end
  local aside = call('ZRANGE', keyOf(q, 'aside:' .. key), 0, most)
  look(aside)
  for _, jobId in ipairs(aside) do
    local group = string.match(call('HGET', keyOf(q, 'front'), jobId) or '', '^%x+ (.*)$')
    if group and not cut then look(call('ZRANGE', keyed.part(q, key, group), 0, most)) end
  end
  look(keyed.firstParked(q, key, most + 1))
  look(call('ZRANGE', keyOf(q, 'f:' .. key), 0, ready.patience - 1))
  return found, cut or #found > most
end

-- Those that gave the key up because they are parked for a budget, and came before a job.
function keyed.olderResting(key, number, most)
  local found = {}
  for _, member in ipairs(most > 0 and call('ZRANGEBYSCORE', keyed.resting(key), '-inf', string.format('(%.0f', number), 'LIMIT', 0, most) or {}) do
    local q, jobId = string.match(member, '^([^:]*):(.*)$')
    -- One that was removed counts for nothing.
    if call('EXISTS', bull(q, jobId)) == 0 then
      keyed.release(q, jobId)
    else
      found[#found + 1] = { q = q, jobId = jobId, number = tonumber(call('ZSCORE', keyed.resting(key), member)), rests = true }
    end
  end
  return found
end

-- Of those that wait for a key and came before this one, the oldest, as many as are too many with it.
function keyed.supersedeWaiting(key, info, why)
  local most, looked = keyed.mayEnd(), call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)
  local found, cut = keyed.olderResting(key, info.number, most), false
  for _, q in ipairs(looked) do
    local some
    some, cut = keyed.olderIn(q, key, info.number, most - #found)
    if cut then break end
    for _, each in ipairs(some) do found[#found + 1] = each end
  end
  if cut then return keyed.supersedeMany(key, info, why, looked) end
  table.sort(found, function(x, y) return x.number < y.number end)
  local brings = {}
  for i = 1, math.min(#found, #found + 1 - keyed.room(key, info.limit)) do
    if found[i].rests then keyed.endResting(found[i], key, why) else keyed.supersede(found[i].q, found[i].jobId, why) end
    brings[found[i].q] = true
  end
  -- Those behind them may be kept.
  for _, q in ipairs(looked) do
    if brings[q] then keyed.fill(q, key) else keyed.quiet(q, key) end
  end
end

-- Where they are very many: all that are in line, and of those at the front the oldest, as many as are too many with it.
function keyed.supersedeMany(key, info, why, looked)
  local fronts = {}
  for _, each in ipairs(keyed.olderResting(key, info.number, keyed.mayEnd())) do keyed.endResting(each, key, why) end
  for _, q in ipairs(looked) do
    local function older(jobId)
      local other = keyed.infoOf(q, jobId)
      return other and other.key == key and other.number < info.number and other.number
    end
    local most = keyed.mayEnd()
    local function endOlder(some)
      for _, jobId in ipairs(some) do
        if older(jobId) then keyed.supersede(q, jobId, why) end
      end
    end
    -- Those that stand aside first: what is behind them is in the line again then.
    local aside = most > 0 and call('ZRANGE', keyOf(q, 'aside:' .. key), 0, most - 1) or {}
    endOlder(aside)
    local parked = most > #aside and keyed.firstParked(q, key, most - #aside) or {}
    endOlder(parked)
    -- The others when they come up.
    if #aside + #parked == most or call('EXISTS', keyOf(q, 'aside:' .. key)) == 1 then call('HSET', keyOf(q, 'over'), key, string.format('%.0f ', info.number) .. why) end
    for _, jobId in ipairs(call('ZRANGE', keyOf(q, 'f:' .. key), 0, ready.patience - 1)) do
      local number = older(jobId)
      if number then fronts[#fronts + 1] = { q = q, jobId = jobId, number = number } end
    end
  end
  table.sort(fronts, function(x, y) return x.number < y.number end)
  for i = 1, math.min(#fronts, #fronts + 1 - keyed.room(key, info.limit)) do keyed.supersede(fronts[i].q, fronts[i].jobId, why) end
  for _, q in ipairs(looked) do keyed.quiet(q, key) end
end

-- Whether a job's work (by its id among all queues) is on its way to its branch or its target, or it ends; with `pushed` only once it is on its branch.
function keyed.concludes(id, pushed)
  local run = call('HMGET', runPrefix .. id, 'record', 'result', 'r:phase')
  if not run[1] or run[2] then return false end
  local phase = run[3] and string.match(run[3], '^"(.*)"$') or cjson.decode(run[1]).phase
  return phase == 'pushing' and not pushed or phase == 'promoting' or phase == 'closing'
end

-- Takes a key from as many of its older holders as one job needs, the oldest first. From this step on they are to end as cancelled: whatever
-- they write next tells them so, before they may push or promote.
function keyed.evict(key, info, by)
  local older = {}
  for _, member in ipairs(call('ZRANGE', keyed.holders(key), 0, keyed.mostHolders - 1)) do
    local number = tonumber(string.match(call('HGET', R .. ':keyed', member) or '', '^%x+ (%d+)$') or '0')
    if number < info.number then older[#older + 1] = { member = member, number = number } end
  end
  table.sort(older, function(x, y) return x.number < y.number end)
  local why = 'superseded by job ' .. by
  for _, each in ipairs(older) do
    if keyed.room(key, info.limit) > 0 then return end
    local id = ids.run(string.match(each.member, '^([^:]*):(.*)$'))
    if not keyed.concludes(id) then
      call('ZREM', keyed.holders(key), each.member)
      call('HSET', R .. ':keyed', each.member, '!' .. why)
      keyed.some = {}
      local run = call('HMGET', runPrefix .. id, 'generation', 'result')
      -- One that is not acquired yet learns of it then (ready-enter.lua).
      if run[1] and not run[2] then
        call('HSETNX', runPrefix .. id, 'cancelReason', why)
        call('HSETNX', runPrefix .. id, 'cancelAtMs', string.format('%.0f', redisNow))
        call('PUBLISH', base .. 'cancel', cjson.encode({ jobId = id, reason = call('HGET', runPrefix .. id, 'cancelReason') }))
      end
    end
  end
end

-- Somebody of the queue looks, if anybody is idle; at once, or when it is known who of several queues is given what has come to their fronts (`wakeWaiting`).
function keyed.wake(q, key)
  if keyed.later then
    keyed.later[#keyed.later + 1] = { q = q, key = key }
    return
  end
  local holder = ledger.idlest(q)[1]
  if holder then ledger.wake(q, holder) end
end

function keyed.wakeWaiting()
  local later = keyed.later
  keyed.later = false
  for _, each in ipairs(later) do
    if call('EXISTS', keyOf(each.q, 'f:' .. each.key)) == 1 and keyed.room(each.key, math.huge) > 0 then keyed.wake(each.q, each.key) end
  end
end

-- Brings the front of a queue's line to what the key has room for, so many steps in one call; of what stands there it looks at so many.
function keyed.fill(q, key, looks)
  local line, front, advanced, asides, strict = keyed.line(q, key), keyOf(q, 'f:' .. key), false, 0, nil
  if call('EXISTS', line) == 1 then keyed.letPass(q, key, looks or 2) end
  for _ = 1, ready.patience do
    local group = call('ZRANGE', line, 0, 0)[1]
    if not group then break end
    local head = call('ZRANGE', keyed.part(q, key, group), 0, 0, 'WITHSCORES')
    local jobId, score = head[1], head[2]
    local info = jobId and keyed.infoOf(q, jobId)
    local why = info and keyed.isOver(q, key, info)
    if not jobId then
      call('ZREM', line, group)
    elseif not info or not keyed.isOf(info, key, group) or not call('ZSCORE', bull(q, 'prioritized'), jobId) then
      local at, whose = ready.listedAt(q, jobId)
      keyed.unpark(q, key, group, jobId)
      if at == '!' .. key and whose == group then call('HDEL', bull(q, jobId), 'sy') end
    elseif why then
      if keyed.mayEnd() == 0 then break end
      keyed.supersede(q, jobId, why)
    elseif group == '' then
      -- Parked by a release whose lines had one part.
      ready.unlist(q, jobId, true)
      keyed.park(q, key, keyed.groupOf(info), jobId, score)
    else
      local room, held = keyed.roomIn(q, key, info), keyed.isHeld(q, info.shape, info.tenant)
      if room <= 0 and keyed.prune(key) then room = keyed.roomIn(q, key, info) end
      -- While its queue is paused it would take the key from what runs only for whoever else waits for it.
      if room <= 0 and info.after == 'cancel-running' and not held and call('HEXISTS', bull(q, 'meta'), 'paused') == 0 then
        keyed.evict(key, info, jobId)
        room = keyed.roomIn(q, key, info)
      end
      local last = call('ZREVRANGE', front, 0, 0, 'WITHSCORES')
      local shape, name
      if last[1] then shape, name = ready.listedAt(q, last[1]) end
      if held then
        -- Each is some forty commands. The next call goes on.
        if asides == keyed.mostAsides then break end
        asides = asides + 1
        keyed.advance(q, key, jobId, info, score, true)
      elseif room <= 0 then
        strict = info
        break
      elseif last[1] and not shape then
        -- It is gone, or was given around this.
        keyed.forget(q, last[1])
      elseif call('ZCARD', front) < room then
        keyed.advance(q, key, jobId, info, score)
        advanced = true
      elseif tonumber(score) < tonumber(last[2]) then
        -- A better one came.
        keyed.sendBack(q, key, shape .. ':' .. name, last[1], last[2])
      else
        break
      end
    end
  end
  keyed.insist(q, key, strict)
  keyed.quiet(q, key)
  if advanced then keyed.wake(q, key) end
end

-- What is known of a queue's line goes with the last of it, however that left: given, superseded, or dropped with all of the queue.
function keyed.quiet(q, key)
  if call('EXISTS', keyed.line(q, key)) == 1 or call('EXISTS', keyOf(q, 'aside:' .. key)) == 1 then return end
  call('HDEL', keyOf(q, 'over'), key)
  call('HDEL', keyed.strict(key), q)
  if call('EXISTS', keyOf(q, 'f:' .. key)) == 0 then call('SREM', keyed.queues(key), q) end
end

-- A live job that holds a key or waits for it, if one more, with this limit, would be too many.
function keyed.before(key, limit)
  keyed.prune(key)
  local count = limit - keyed.room(key, limit)
  local member = call('ZRANGE', keyed.holders(key), 0, 0)[1]
  local one = member and string.match(member, '^[^:]*:(.*)$')
  for _, q in ipairs(call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)) do
    local first = { call('ZRANGE', keyOf(q, 'f:' .. key), 0, ready.patience - 1), call('ZRANGE', keyOf(q, 'aside:' .. key), 0, ready.patience - 1), keyed.firstParked(q, key, ready.patience) }
    for _, some in ipairs(first) do
      for _, jobId in ipairs(some) do
        local other = keyed.infoOf(q, jobId)
        if other and other.key == key and call('ZSCORE', bull(q, 'prioritized'), jobId) then
          count = count + 1
          one = one or jobId
        end
      end
    end
  end
  return count >= limit and one or nil
end

-- A job with a key comes to wait. `info`: { key, limit, after, shape, json, milliCpu, memoryMiB, tenant, run }, and then its number. `run` is the generation of the run that
-- waits (next-run.lua): it has come before when that is the same, and supersedes nothing again. Earlier releases kept the attempts that BullMQ had counted, and some still do.
-- `stay`: has the end of its last run be the one that counts, and returns whether there is one: a retry that is dropped leaves the job as it was.
function keyed.arrive(q, jobId, score, info, stay)
  local member, known = q .. ':' .. jobId, keyed.infoOf(q, jobId)
  info.attempts = tonumber(call('HGET', bull(q, jobId), 'atm') or '0')
  local again = known and known.attempts == info.attempts and (not known.run or known.run == info.run)
  local standing = call('HGET', R .. ':keyed', member)
  if standing and again and string.sub(standing, 1, 1) == '!' then return keyed.supersede(q, jobId, string.sub(standing, 2)) end
  if standing and call('HEXISTS', R .. ':held', ids.run(q, jobId)) == 0 then keyed.release(q, jobId) end
  info.number = again and known.number or call('INCR', R .. ':arrivals')
  call('HSET', bull(q, jobId), 'syk', cjson.encode(info))
  if not again and info.after == 'drop' then
    local other = keyed.before(info.key, info.limit)
    if other and stay() then return keyed.putBack(q, jobId, known, other) end
    if other then return keyed.supersede(q, jobId, 'dropped: job ' .. other .. ' has its concurrency key, or waits for it') end
  elseif not again and info.after ~= 'wait' then
    keyed.supersedeWaiting(info.key, info, 'superseded by job ' .. jobId)
  end
  call('SADD', keyed.queues(info.key), q)
  call('PEXPIRE', keyed.queues(info.key), keyed.keptMs)
  keyed.park(q, info.key, keyed.groupOf(info), jobId, score)
  keyed.fill(q, info.key)
end

-- BullMQ has another score of a job that is listed.
function keyed.rescored(q, jobId, shape, name, score)
  local key, group = string.match(shape, '^!(.*)$'), name
  if key then
    keyed.stand(q, key, group)
  else
    key, group = string.match(call('HGET', keyOf(q, 'front'), jobId) or '', '^(%x+) ?(.*)$')
    if not key then return end
    call('ZADD', keyOf(q, 'f:' .. key), 'XX', score, jobId)
    call('ZADD', keyOf(q, 'aside:' .. key), 'XX', score, jobId)
    if group ~= '' then keyed.stand(q, key, group) end
  end
  keyed.fill(q, key)
end

-- Looks at a part of what holds a key, from a cursor on, and at some of a queue's lines, from a shape's number on. Returns from where to go on.
function keyed.sweep(q, cursor, number)
  local part = call('HSCAN', R .. ':keyed', cursor, 'COUNT', 64)
  for i = 1, #part[2], 2 do
    local owner, jobId = string.match(part[2][i], '^([^:]*):(.*)$')
    if keyed.isDead(part[2][i]) then keyed.release(owner, jobId) end
  end
  local lines = call('ZRANGEBYSCORE', keyOf(q, 'shapes'), '(' .. number, '(0', 'WITHSCORES', 'LIMIT', 0, 8)
  for i = 1, #lines, 2 do
    local key = string.sub(lines[i], 2)
    keyed.stand(q, key, '')
    keyed.fill(q, key, ready.patience)
  end
  return part[1], #lines == 16 and lines[16] or '-inf'
end
