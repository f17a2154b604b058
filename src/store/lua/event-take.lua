-- include event-group
-- Takes what is to be handled. ARGV: group, how many, how many of them may be ones that were due before (failed, or behind such), 1 to look
-- at new ones first, lease in ms, how often an entry is taken at most, how many dead letters are kept, how many bytes of them, what is wanted:
-- kinds of events (',completed,moved,'), or '#' and the number of a webhook of the events' jobs; what stands for the receiver or ''. What is not wanted is
-- passed by.
-- Returns {entries as {id, times taken, event, log's end}, ms until more is due or -1, the last entry that was read, 1 when there may be more now}.
local room, dueRoom, newFirst, lease, attempts, most, mostBytes =
  tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local entries, more = {}, 0
local stopped = redis.call('HGET', G, 'stopped')
if stopped and (ARGV[10] or '') ~= '' then
  if cjson.decode(stopped).receiver == ARGV[10] then
    -- Whoever waits is woken by what comes next, and by nothing that is there.
    local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]
    return { {}, -1, newest and newest[1] or '0-0', 0 }
  end
  redis.call('HDEL', G, 'stopped')
end
local wanted = ARGV[9]
local hook = string.match(wanted, '^#(%d+)$')

local function isWanted(fields)
  if hook then return string.find(' ' .. (fields.hooks or '') .. ' ', ' ' .. hook .. ' ', 1, true) end
  return string.find(wanted, ',' .. (fields.kind or 'completed') .. ',', 1, true)
end

local function take(id, subject, taken, event, log)
  redis.call('HSET', STATE, id, (taken + 1) .. ' ' .. subject)
  redis.call('ZADD', DUE, text(now + lease), id)
  entries[#entries + 1] = { id, taken + 1, event, log }
end

local function takeDue()
  local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, math.min(room - #entries, dueRoom))
  for _, id in ipairs(due) do
    local taken, subject = stateOf(id)
    if not taken then
      redis.call('ZREM', DUE, id)
    elseif taken >= attempts then
      more = 1
      bury(id, subject, taken, 'its reader ended, or could not reach Redis, before it had said how the last attempt went', most, mostBytes)
    else
      local event, log = contentOf(id)
      if event then
        take(id, subject, taken, event, log)
      else
        more = 1
        lose(1, id, id)
        leave(id, subject)
      end
    end
  end
end

local failed
local function takeNew()
  -- Entries behind others of their subject take no room; so many looks, and the rest is left to the next call.
  for _ = 1, 8 do
    local count = room - #entries
    if count <= 0 then return end
    local reply = redis.pcall('XREADGROUP', 'GROUP', group, 'switchyard', 'COUNT', count, 'NOACK', 'STREAMS', STREAM, '>')
    if reply and reply.err then
      failed = reply
      return
    end
    if not reply then return end
    local last, read = unpack(redis.call('HMGET', G, 'last', 'read'))
    read = tonumber(read)
    for _, found in ipairs(reply[1][2]) do
      local id, fields = found[1], fieldsOf(found[2])
      local number = tonumber(fields.n)
      if number and read and number > read + 1 then lose(number - read - 1, last, id) end
      last, read = id, number or read
      local subject = fields.job or string.match(fields.id or '', '^(.*)%.%d+$') or fields.id or id
      -- A replay comes past what is not done.
      if isWanted(fields) and not stateOf(id) and enter(id, subject, 0) then take(id, subject, 0, fields.event or '', fields.log or '') end
    end
    redis.call('HSET', G, 'last', last, 'read', read or 0)
    if #reply[1][2] < count then return end
  end
  more = 1
end

if newFirst then
  takeNew()
  takeDue()
else
  takeDue()
  takeNew()
end
if lost > 0 then more = 1 end
tellLost()
if failed and #entries == 0 and more == 0 then return failed end
local next = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
return { entries, next[2] and math.max(0, tonumber(next[2]) - now) or -1, redis.call('HGET', G, 'last') or '0-0', more }
