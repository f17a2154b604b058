-- Saves the record and appends output in one step: the record's offsets and the log stream can't disagree.
-- KEYS: run, log stream, log account. The lists of droppable pieces are KEYS[3] .. ':' .. channel.
-- ARGV: fence, record, now, reason mode ('keep', 'clear', 'set'), reason, call number, half of the cap in bytes,
--       then for each piece: step, stream, attempt, offset, data.
-- Returns {'lost'} or {'saved', cancel reason or false, cancel time or false, last sequence number}.
--
-- Output that came twice is written once. A connection that repeats an unanswered call sends the same call number
-- under the same fence; a supervisor that repeats it sends offsets that are known already.
--
-- The cap: of each step's stdout and stderr the first half of the cap stays for ever (the head); of what follows, the
-- last half (the tail): its oldest pieces are deleted as new ones come. Each piece is charged 64 bytes besides its
-- data, so that a flood of tiny pieces is bounded too.
local run, log, account = KEYS[1], KEYS[2], KEYS[3]
local now, half = ARGV[3], tonumber(ARGV[7])
local state = redis.call('HMGET', run, 'fence', 'result', 'callFence', 'call', 'seq', 'cancelReason', 'cancelAtMs')
if state[1] ~= ARGV[1] or state[2] then return { 'lost' } end
redis.call('HSET', run, 'record', ARGV[2], 'atMs', now)
if ARGV[4] == 'set' then redis.call('HSET', run, 'reason', ARGV[5])
elseif ARGV[4] == 'clear' then redis.call('HDEL', run, 'reason') end

local seq = tonumber(state[5] or '0')
local repeated = state[3] == ARGV[1] and tonumber(ARGV[6]) <= tonumber(state[4] or '-1')
if #ARGV > 7 and not repeated then
  redis.call('HSET', run, 'callFence', ARGV[1], 'call', ARGV[6])
  local function add(step, stream, attempt, offset, data)
    seq = seq + 1
    redis.call('XADD', log, seq .. '-0', 's', step, 'o', stream, 'n', attempt, 'b', string.format('%.0f', offset), 't', now, 'd', data)
  end
  for i = 8, #ARGV, 5 do
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
        local pieces = account .. ':' .. channel
        if #data > half - 64 then
          offset = offset + #data - (half - 64)
          data = string.sub(data, -(half - 64))
        end
        local tail = redis.call('HINCRBY', account, tailField, #data + 64)
        while tail > half do
          local oldest = redis.call('LPOP', pieces)
          if not oldest then
            redis.call('HSET', account, tailField, #data + 64)
            break
          end
          local id, size = string.match(oldest, '^(%d+):(%d+)$')
          redis.call('XDEL', log, id .. '-0')
          tail = redis.call('HINCRBY', account, tailField, -tonumber(size))
        end
        add(step, stream, attempt, offset, data)
        redis.call('RPUSH', pieces, seq .. ':' .. (#data + 64))
      end
    end
  end
  redis.call('HSET', run, 'seq', seq)
end
return { 'saved', state[6], state[7], seq }
