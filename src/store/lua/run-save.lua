-- include event-append
-- Saves what has changed of the record and appends output in one step: the record's offsets and the log stream can't disagree.
-- KEYS: run, log stream, log account, and where something is told of the changes: events, account of the events. The lists of droppable pieces are
-- KEYS[3] .. ':' .. channel.
-- ARGV: fence, now, reason mode ('keep', 'clear', 'set'), reason, call number, the number of the holder's call before it that these changes build on (0: what it
--       acquired), or '' for the whole record, with '!' and that number where what is told builds on it; half of the cap in bytes; how many fields change,
--       and where something is told behind a blank how many events, and their bounds or ''; each field with its JSON (stored-record.ts); each event: id,
--       kind, job, hooks, JSON; then for each piece: step, stream, attempt, offset, data.
-- Returns {'lost'}, {'stale'}: the record is not the one that the changes build on, nothing was written, and the whole one is wanted; or {'saved',
-- cancel reason or false, cancel time or false, last sequence number}.
--
-- What came twice is written once. A connection that repeats an unanswered call sends the same call number under the same fence; a
-- supervisor that repeats it sends offsets that are known already. What an earlier call wrote can be missing all the same, when it was refused, or
-- lost with a primary that failed.
--
-- The cap: of each step's stdout and stderr the first half of the cap stays for ever (the head); of what follows, the
-- last half (the tail): its oldest pieces are deleted as new ones come. Each piece is charged 64 bytes besides its
-- data, so that a flood of tiny pieces is bounded too.
local run, log, account = KEYS[1], KEYS[2], KEYS[3]
local now, number, half, changes = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[7]), tonumber(string.match(ARGV[8], '^%d+'))
local told, bounds = string.match(ARGV[8], '^%d+ (%d+) (.*)$')
local toldFrom = 9 + 2 * changes
local pieces = toldFrom + 5 * tonumber(told or '0')
local state = redis.call('HMGET', run, 'fence', 'result', 'callFence', 'call', 'seq', 'cancelReason', 'cancelAtMs', 'reason')
if state[1] ~= ARGV[1] or state[2] then return { 'lost' } end
local seq, last = tonumber(state[5] or '0'), state[3] == ARGV[1] and tonumber(state[4]) or 0
if number <= last then return { 'saved', state[6], state[7], seq } end
local whole, builtOn = string.match(ARGV[6], '^!') or ARGV[6] == '', tonumber(string.match(ARGV[6], '%d+'))
if builtOn and builtOn ~= last then return { 'stale' } end
local fields = { 'atMs', now, 'callFence', ARGV[1], 'call', ARGV[5] }
if ARGV[3] == 'set' then
  fields[#fields + 1] = 'reason'
  fields[#fields + 1] = ARGV[4]
end
for i = 9, toldFrom - 1 do fields[#fields + 1] = ARGV[i] end
-- A Redis that has no memory left refuses these; only then is anything deleted.
for i = 1, #fields, 1000 do redis.call('HSET', run, unpack(fields, i, math.min(i + 999, #fields))) end
if ARGV[3] == 'clear' and state[8] then redis.call('HDEL', run, 'reason') end
if whole then
  local changed = {}
  for _, field in ipairs(redis.call('HKEYS', run)) do
    if string.sub(field, 1, 2) == 'r:' then changed[#changed + 1] = field end
  end
  for i = 1, #changed, 1000 do redis.call('HDEL', run, unpack(changed, i, math.min(i + 999, #changed))) end
end

if #ARGV >= pieces then
  local function add(step, stream, attempt, offset, data)
    seq = seq + 1
    redis.call('XADD', log, seq .. '-0', 's', step, 'o', stream, 'n', attempt, 'b', string.format('%.0f', offset), 't', now, 'd', data)
  end
  for i = pieces, #ARGV, 5 do
    local step, stream, attempt, offset, data = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
    local channel = stream .. ':' .. step
    if stream ~= 'system' then
      local nextField = 'next:' .. attempt .. ':' .. channel
      local known = tonumber(redis.call('HGET', account, nextField) or '0')
      if offset < known then
        data = string.sub(data, known - offset + 1)
        offset = known
      end
      if #data > 0 then redis.call('HSET', account, nextField, string.format('%.0f', offset + #data)) end
    end
    if #data > 0 then
      local headField, tailField = 'head:' .. channel, 'tail:' .. channel
      local head = tonumber(redis.call('HGET', account, headField) or '0')
      local room = half - head - 64
      if room > 0 then
        local first = string.sub(data, 1, room)
        add(step, stream, attempt, offset, first)
        -- A head that had to cut a piece is full, whatever the arithmetic of the next piece's charge says.
        local charge = #first < #data and half - head or #first + 64
        redis.call('HINCRBY', account, headField, charge)
        data = string.sub(data, #first + 1)
        offset = offset + #first
      end
      if #data > 0 then
        local list = account .. ':' .. channel
        if #data > half - 64 then
          offset = offset + #data - (half - 64)
          data = string.sub(data, -(half - 64))
        end
        local tail = redis.call('HINCRBY', account, tailField, #data + 64)
        while tail > half do
          local oldest = redis.call('LPOP', list)
          if not oldest then
            redis.call('HSET', account, tailField, #data + 64)
            break
          end
          local id, size = string.match(oldest, '^(%d+):(%d+)$')
          redis.call('XDEL', log, id .. '-0')
          tail = redis.call('HINCRBY', account, tailField, -tonumber(size))
        end
        add(step, stream, attempt, offset, data)
        redis.call('RPUSH', list, seq .. ':' .. (#data + 64))
      end
    end
  end
  redis.call('HSET', run, 'seq', seq)
end
for i = toldFrom, pieces - 1, 5 do appendEvent(KEYS[4], KEYS[5], bounds, ARGV[i], ARGV[i + 4], seq, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
return { 'saved', state[6], state[7], seq }
