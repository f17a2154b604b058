-- include ready
-- Keys of concurrency: of the jobs that share one, at most so many are in consumers' hands, in all queues of the deployment.
--   R:key:<key>:in       sorted set: '<queue>:<job id>' -> its limit, of the jobs that hold the key
--   R:key:<key>:queues   set: queues in which jobs wait for it
--   R:keyed              hash: '<queue>:<job id>' -> '<key> <number>' of a job that holds one; '!' and why of one that is superseded and has not ended
--   R:arrivals           numbers the jobs that have a key, as they come
--   Q:j:!<key>:          the line: job id -> BullMQ's score, of those that are parked; `!<key>` is a shape that no view is ever asked about
--   Q:front              hash: job id -> key, of those that are listed as others are: as many of the first as the key has room for
--   Q:f:<key>            sorted set: the same jobs, of one key -> BullMQ's score
--   Q:over               hash: key -> '<number> <why>': what came before that number and is in the line yet is superseded
-- <key> is a digest of what the user wrote. The field `syk` of BullMQ's hash of a job is what is to be known to list it: see `keyed.arrive`.
--
--   arrives ──► in the line ──► at the front ──► given, holds the key ──► out of hand: the next of each line comes to its front
--      │            │  ◄── full when it comes up ──┘         │
--      └─ dropped ──┴──────────── superseded ◄───────────────┘ by a newer one; it can neither push to its branch nor promote any more
--
-- Only what is in hand holds a key, so that nothing that waits (in a paused queue, for a full provider) keeps it from others. A job that pushes or promotes
-- already is not superseded: it goes through, and the newer one waits for it. In a line jobs stand by priority and arrival.
keyed.keptMs, keyed.mostHolders, keyed.mostQueues = 604800000, 64, 16
keyed.superseded = {}

function keyed.holders(key) return R .. ':key:' .. key .. ':in' end
function keyed.queues(key) return R .. ':key:' .. key .. ':queues' end
function keyed.line(q, key) return jobsKey(q, '!' .. key, '') end

function keyed.infoOf(q, jobId)
  local json = call('HGET', bull(q, jobId), 'syk')
  return json and cjson.decode(json)
end

-- How many more may hold a key, one with this limit among them.
function keyed.room(key, limit)
  local least = call('ZRANGE', keyed.holders(key), 0, 0, 'WITHSCORES')[2]
  return math.min(limit, tonumber(least) or limit) - call('ZCARD', keyed.holders(key))
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
end

-- Into the line; it stands nowhere else in the index.
function keyed.park(q, key, jobId, score) list(q, jobId, '!' .. key, '', score, {}) end

function keyed.unpark(q, key, jobId)
  if call('ZREM', keyed.line(q, key), jobId) == 0 then return end
  call('HINCRBY', R .. ':listed', q, -1)
  if call('EXISTS', keyed.line(q, key)) == 0 then leave(q, '!' .. key, '') end
end

-- From the line to the front.
function keyed.advance(q, key, jobId, info, score)
  keyed.unpark(q, key, jobId)
  call('HSET', keyOf(q, 'front'), jobId, key)
  call('ZADD', keyOf(q, 'f:' .. key), score, jobId)
  enterShape(q, info.shape, info.json, info.milliCpu, info.memoryMiB)
  local dirty = {}
  list(q, jobId, info.shape, info.tenant, score, dirty)
  placeDirty(q, dirty)
  keyed.advanced = true
end

-- It is at the front no more. Returns its key; nil when it was not there.
function keyed.forget(q, jobId)
  local key = call('HGET', keyOf(q, 'front'), jobId)
  if not key then return nil end
  call('HDEL', keyOf(q, 'front'), jobId)
  call('ZREM', keyOf(q, 'f:' .. key), jobId)
  return key
end

-- As `forget`, and the next one comes there.
function keyed.gone(q, jobId)
  local key = keyed.forget(q, jobId)
  if key then keyed.fill(q, key) end
end

-- A job that waits is taken to be ended as cancelled, by whoever looks next; the caller may be faster.
function keyed.supersede(q, jobId, why)
  keyed.forget(q, jobId)
  unlist(q, jobId)
  if call('ZREM', bull(q, 'prioritized'), jobId) == 0 then return end
  call('HSET', R .. ':keyed', q .. ':' .. jobId, '!' .. why)
  call('HSET', bull(q, jobId), 'sy', '-')
  call('RPUSH', bull(q, 'wait'), jobId)
  for _, each in ipairs({ q, jobId, why }) do keyed.superseded[#keyed.superseded + 1] = each end
end

-- Those that wait for a key and came before this one: all that are in line, and of those at the front the oldest, as many as are too many with it.
function keyed.supersedeWaiting(key, info, why)
  local fronts = {}
  for _, q in ipairs(call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)) do
    local function older(jobId)
      local other = keyed.infoOf(q, jobId)
      return other and other.number < info.number and other.number
    end
    local parked = call('ZRANGE', keyed.line(q, key), 0, patience - 1)
    for _, jobId in ipairs(parked) do
      if older(jobId) then keyed.supersede(q, jobId, why) end
    end
    if #parked == patience then call('HSET', keyOf(q, 'over'), key, string.format('%.0f ', info.number) .. why) end
    for _, jobId in ipairs(call('ZRANGE', keyOf(q, 'f:' .. key), 0, patience - 1)) do
      local number = older(jobId)
      if number then fronts[#fronts + 1] = { q = q, jobId = jobId, number = number } end
    end
  end
  table.sort(fronts, function(x, y) return x.number < y.number end)
  for i = 1, math.min(#fronts, #fronts + 1 - keyed.room(key, info.limit)) do keyed.supersede(fronts[i].q, fronts[i].jobId, why) end
end

-- Whether a job's work (by its id among all queues) is on its way to its branch or its target, or it ends.
function keyed.concludes(id)
  local run = call('HMGET', runPrefix .. id, 'record', 'result', 'r:phase')
  if not run[1] or run[2] then return false end
  local phase = run[3] and string.match(run[3], '^"(.*)"$') or cjson.decode(run[1]).phase
  return phase == 'pushing' or phase == 'promoting' or phase == 'closing'
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

-- Somebody of the queue looks, if anybody is idle.
function keyed.wake(q)
  local idle = idlePrefix .. q
  call('ZREMRANGEBYSCORE', idle, '-inf', now)
  local holder = call('ZREVRANGE', idle, 0, 0)[1]
  if holder then wake(q, holder) end
end

-- Brings the front of a queue's line to what the key has room for, so many steps in one call.
function keyed.fill(q, key)
  local line, front, advanced = keyed.line(q, key), keyOf(q, 'f:' .. key), false
  for _ = 1, patience do
    local head = call('ZRANGE', line, 0, 0, 'WITHSCORES')
    local jobId, score = head[1], head[2]
    if not jobId then break end
    local info = keyed.infoOf(q, jobId)
    local number, why = string.match(call('HGET', keyOf(q, 'over'), key) or '', '^(%d+) (.*)$')
    if not info or not call('ZSCORE', bull(q, 'prioritized'), jobId) then
      keyed.unpark(q, key, jobId)
      if call('EXISTS', bull(q, jobId)) == 1 then call('HDEL', bull(q, jobId), 'sy') end
    elseif number and info.number < tonumber(number) then
      keyed.supersede(q, jobId, why)
    else
      local room = keyed.room(key, info.limit)
      if room <= 0 and keyed.prune(key) then room = keyed.room(key, info.limit) end
      if room <= 0 and info.after == 'cancel-running' then
        keyed.evict(key, info, jobId)
        room = keyed.room(key, info.limit)
      end
      if room <= 0 then break end
      local last = call('ZREVRANGE', front, 0, 0, 'WITHSCORES')
      if last[1] and not listedAt(q, last[1]) then
        -- It is gone, or was given around this.
        keyed.forget(q, last[1])
      elseif call('ZCARD', front) < room then
        keyed.advance(q, key, jobId, info, score)
        advanced = true
      elseif tonumber(score) < tonumber(last[2]) then
        -- A better one came.
        unlist(q, last[1], true)
        keyed.forget(q, last[1])
        keyed.park(q, key, last[1], last[2])
      else
        break
      end
    end
  end
  if call('EXISTS', line) == 0 then
    call('HDEL', keyOf(q, 'over'), key)
    if call('EXISTS', front) == 0 then call('SREM', keyed.queues(key), q) end
  end
  if advanced then keyed.wake(q) end
end

-- A job is out of hand.
function keyed.release(q, jobId)
  local member = q .. ':' .. jobId
  local standing = call('HGET', R .. ':keyed', member)
  if not standing then return end
  call('HDEL', R .. ':keyed', member)
  local key = string.match(standing, '^(%x+) %d+$')
  if not key then return end
  call('ZREM', keyed.holders(key), member)
  for _, each in ipairs(call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)) do keyed.fill(each, key) end
end

-- A live job that holds a key or waits for it, if one more, with this limit, would be too many.
function keyed.before(key, limit)
  keyed.prune(key)
  local count = limit - keyed.room(key, limit)
  local member = call('ZRANGE', keyed.holders(key), 0, 0)[1]
  local one = member and string.match(member, '^[^:]*:(.*)$')
  for _, q in ipairs(call('SRANDMEMBER', keyed.queues(key), keyed.mostQueues)) do
    for _, where in ipairs({ keyOf(q, 'f:' .. key), keyed.line(q, key) }) do
      for _, jobId in ipairs(call('ZRANGE', where, 0, patience - 1)) do
        if call('ZSCORE', bull(q, 'prioritized'), jobId) then
          count = count + 1
          one = one or jobId
        end
      end
    end
  end
  return count >= limit and one or nil
end

-- A job with a key comes to wait. `info`: { key, limit, after, shape, json, milliCpu, memoryMiB, tenant }, and then its number and the attempts that BullMQ
-- had counted: it has come before when they are the same, and supersedes nothing again.
function keyed.arrive(q, jobId, score, info)
  local member, known = q .. ':' .. jobId, keyed.infoOf(q, jobId)
  info.attempts = tonumber(call('HGET', bull(q, jobId), 'atm') or '0')
  local again = known and known.attempts == info.attempts
  local standing = call('HGET', R .. ':keyed', member)
  if standing and again and string.sub(standing, 1, 1) == '!' then return keyed.supersede(q, jobId, string.sub(standing, 2)) end
  if standing and call('HEXISTS', R .. ':held', ids.run(q, jobId)) == 0 then keyed.release(q, jobId) end
  info.number = again and known.number or call('INCR', R .. ':arrivals')
  call('HSET', bull(q, jobId), 'syk', cjson.encode(info))
  if not again and info.after == 'drop' then
    local other = keyed.before(info.key, info.limit)
    if other then return keyed.supersede(q, jobId, 'dropped: job ' .. other .. ' has its concurrency key, or waits for it') end
  elseif not again and info.after ~= 'wait' then
    keyed.supersedeWaiting(info.key, info, 'superseded by job ' .. jobId)
  end
  call('SADD', keyed.queues(info.key), q)
  call('PEXPIRE', keyed.queues(info.key), keyed.keptMs)
  keyed.park(q, info.key, jobId, score)
  keyed.fill(q, info.key)
end

-- BullMQ has another score of a job that is listed.
function keyed.rescored(q, jobId, shape, score)
  local key = string.match(shape, '^!(.*)$') or call('HGET', keyOf(q, 'front'), jobId)
  if not key then return end
  call('ZADD', keyOf(q, 'f:' .. key), 'XX', score, jobId)
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
  for i = 1, #lines, 2 do keyed.fill(q, string.sub(lines[i], 2)) end
  return part[1], #lines == 16 and lines[16] or '-inf'
end
