-- The rules of a group that reads completion events; every script of a group includes this file.
-- KEYS: 1 the stream of events, and of the group: 2 G, hash: its account (see below); 3 sorted set: entries of which each is the first of
-- its subject -> when it is to be taken; 4 hash: every entry that was read and is not done -> `<times taken> <subject>`; 5 hash: an entry ->
-- the next one of its subject; 6 hash: a subject -> its last entry; 7 hash: an entry that is not in the stream -> `<log's end> <event>`;
-- 8 stream: the dead letters. ARGV[1] is the group's name.
-- G: last, read (the last entry that was read, and its number), clock, missed (events that were trimmed before they were handled),
-- notices (numbers the entries that tell so), died, dropped (dead letters so far, and those that the bound removed), deadBytes,
-- stopped (JSON: the receiver that wants no more, since when and why; nothing is taken for it until it is resumed, or another one is in its place).
--
-- An entry of the stream is: unread -> due at once, or behind an earlier one of its subject -> taken, which is due again when its reader has
-- not said for `lease` that it lives -> done; or failed, and due after its backoff; or, taken too often, a dead letter, which can be
-- given back. When it is done or dead the next of its subject is due. Nothing here costs more the more waits.
local STREAM, G, DUE, STATE, NEXT, TAIL, BODY, DEAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local group = ARGV[1]

local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local redisNow = time[1] * 1000 + math.floor(time[2] / 1000)
-- Due times are of a clock that never goes back and jumps by a minute at most: Redis' own may be set, or be another machine's after a failover.
-- It is the first write of every script: a Redis that is out of memory or read-only refuses the script here, before anything is half done.
local before, now = string.match(redis.call('HGET', G, 'clock') or '', '^(%d+) (%d+)$')
now = before and tonumber(now) + math.min(math.max(redisNow - tonumber(before), 0), 60000) or redisNow
redis.call('HSET', G, 'clock', text(redisNow) .. ' ' .. text(now))

local function fieldsOf(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  -- As lua/event-append.lua leaves it out.
  if fields.id and fields.event and string.sub(fields.event, 1, 1) == '{' and string.sub(fields.event, 1, 6) ~= '{"id":' then
    fields.event = '{"id":' .. cjson.encode(fields.id) .. ',' .. string.sub(fields.event, 2)
  end
  return fields
end

local function stateOf(id)
  local taken, subject = string.match(redis.call('HGET', STATE, id) or '', '^(%d+) (.*)$')
  return tonumber(taken), subject
end

-- The event's JSON and its log's end; nothing when it was trimmed.
local function contentOf(id)
  local body = redis.call('HGET', BODY, id)
  if body then
    local log, event = string.match(body, '^(%d*) (.*)$')
    return event, log
  end
  if not string.match(id, '^%d+%-%d+$') then return nil end
  local found = redis.call('XRANGE', STREAM, id, id)[1]
  if not found then return nil end
  local fields = fieldsOf(found[2])
  return fields.event or '', fields.log or ''
end

-- Returns whether nothing of its subject is before it.
local function enter(id, subject, taken)
  local ahead = redis.call('HGET', TAIL, subject)
  redis.call('HSET', TAIL, subject, id)
  redis.call('HSET', STATE, id, taken .. ' ' .. subject)
  if ahead then redis.call('HSET', NEXT, ahead, id) else redis.call('ZADD', DUE, text(now), id) end
  return not ahead
end

-- It is done, or dead. Returns 1 when another one is due by that.
local function leave(id, subject)
  local following = redis.call('HGET', NEXT, id)
  redis.call('HDEL', NEXT, id)
  redis.call('HDEL', STATE, id)
  redis.call('HDEL', BODY, id)
  redis.call('ZREM', DUE, id)
  if following then
    redis.call('ZADD', DUE, text(now), following)
    return 1
  end
  redis.call('HDEL', TAIL, subject)
  return 0
end

-- What this script found trimmed; told by an entry of its own.
local lost, lostFrom, lostTo = 0, nil, nil
local function lose(count, from, to)
  lost = lost + count
  lostFrom, lostTo = lostFrom or from, to
end
local function tellLost()
  if lost == 0 then return end
  redis.call('HINCRBY', G, 'missed', lost)
  local id = 'trimmed-' .. redis.call('HINCRBY', G, 'notices', 1)
  redis.call('HSET', BODY, id, ' ' .. cjson.encode({ trimmed = lost, after = lostFrom, before = lostTo, atMs = redisNow, group = group, id = id }))
  enter(id, ' trimmed', 0)
end

local function sizeOf(entry)
  local size = 0
  for _, part in ipairs(entry[2]) do size = size + #part end
  return size
end

local function removeDead(entry)
  redis.call('XDEL', DEAD, entry[1])
  redis.call('HINCRBY', G, 'deadBytes', -sizeOf(entry))
end

-- Returns as `leave`.
local function bury(id, subject, taken, why, most, mostBytes)
  local event, log = contentOf(id)
  if event then
    local dead = redis.call('XADD', DEAD, '*', 'id', id, 'subject', subject, 'attempts', taken, 'error', why, 'at', text(redisNow), 'log', log, 'event', event)
    redis.call('HINCRBY', G, 'died', 1)
    local bytes = redis.call('HINCRBY', G, 'deadBytes', sizeOf(redis.call('XRANGE', DEAD, dead, dead)[1]))
    -- What is left over after so many, because a bound was lowered, goes with the next ones.
    for _ = 1, 64 do
      if redis.call('XLEN', DEAD) <= 1 or (redis.call('XLEN', DEAD) <= most and bytes <= mostBytes) then break end
      local oldest = redis.call('XRANGE', DEAD, '-', '+', 'COUNT', 1)[1]
      removeDead(oldest)
      bytes = bytes - sizeOf(oldest)
      redis.call('HINCRBY', G, 'dropped', 1)
    end
  else
    lose(1, id, id)
  end
  return leave(id, subject)
end

-- Where a group is to begin that is to begin behind an entry: no place that the stream has not come to, which would have it wait for hours where a clock was set back.
-- `anew`: what it gets where the stream itself was begun anew, by a clock that is behind.
local function startOf(from, anew)
  local ms, sequence = string.match(from, '^(%d+)%-(%d+)$')
  if not ms then return from end
  local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]
  if not newest then return '0' end
  local aheadMs = tonumber(ms) - tonumber((string.match(newest[1], '^%d+')))
  if aheadMs <= 0 then return from end
  -- A time that is yet to come, which has the last of numbers; or an event that a failover has lost. By more than that: all that the stream has is new.
  return (aheadMs <= 60000 or sequence == '18446744073709551615') and '$' or anew
end

-- Notes where the group reads on, by what Redis says of it.
local function noteStart()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
    local info = fieldsOf(flat)
    if info.name == group then
      local last = info['last-delivered-id']
      redis.call('HSET', G, 'last', last)
      local following = redis.call('XRANGE', STREAM, '(' .. last, '+', 'COUNT', 1)[1]
      local number = following and tonumber(fieldsOf(following[2]).n)
      if number then
        redis.call('HSET', G, 'read', number - 1)
      else
        local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]
        redis.call('HSET', G, 'read', newest and fieldsOf(newest[2]).n or 0)
      end
    end
  end
end
