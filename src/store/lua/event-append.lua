-- Adds an event to the stream and keeps the stream within its bounds; the scripts that tell of a run include this file.
-- The stream's account is a hash: added, bytes (of all events so far), bounds (`<events> <bytes> <age in ms>`, as configured last), first
-- (`<ms> <bytes before>` of the oldest event when it was last looked at, so that it need not be read each time),
-- hooks (how many webhooks a job has named at most, of those of which something was told).
-- An entry's n and b say how many events, and bytes of them, there had been with it: what is missing shows by that.
local defaultBounds = '100000 268435456 604800000'
-- An entry of an event before the end has its kind and job besides; one that goes to webhooks of its job has their numbers (hooks, as `0 2`).
local function appendEvent(stream, account, bounds, id, event, logEnd, kind, job, hooks)
  local kept = redis.call('HMGET', account, 'bounds', 'first', 'hooks')
  if bounds == '' then bounds = kept[1] or defaultBounds elseif bounds ~= kept[1] then redis.call('HSET', account, 'bounds', bounds) end
  local most, mostBytes, ageMs = string.match(bounds, '^(%d+) (%d+) (%d+)$')
  -- Nothing stands twice: the JSON's id is the entry's, and who reads it puts it back (event-group.lua).
  local head = '{"id":"' .. id .. '",'
  if string.sub(event, 1, #head) == head then event = '{' .. string.sub(event, #head + 1) end
  local number = redis.call('HINCRBY', account, 'added', 1)
  local bytes = redis.call('HINCRBY', account, 'bytes', #event)
  local entry = { 'id', id, 'event', event, 'n', number, 'b', bytes, 'log', logEnd }
  for _, more in ipairs({ { 'kind', kind or '' }, { 'job', job or '' }, { 'hooks', hooks or '' } }) do
    if more[2] ~= '' then
      entry[#entry + 1] = more[1]
      entry[#entry + 1] = more[2]
    end
  end
  local newest = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', unpack(entry))
  -- Those who deliver to the N-th webhook of jobs begin once there is one.
  local last = tonumber(string.match(hooks or '', '(%d+)$'))
  if last and last >= tonumber(kept[3] or '0') then redis.call('HSET', account, 'hooks', last + 1) end
  local time = redis.call('TIME')
  local cutoff = math.max(time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ageMs), 0)
  local firstMs, firstBytes = string.match(kept[2] or '', '^(%d+) (%d+)$')
  local within = function() return firstMs and tonumber(firstMs) >= cutoff and bytes - tonumber(firstBytes) <= tonumber(mostBytes) end
  if within() then return end
  redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f', cutoff))
  local function firstFrom(ms)
    local found = redis.call('XRANGE', stream, ms, '+', 'COUNT', 1)[1]
    local fields = {}
    for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
    return found[1], math.max(tonumber(fields.b or '0') - #(fields.event or ''), 0), fields.n
  end
  -- The newest stays, however large; what is left over after so many goes with the next event.
  for tries = 1, 64 do
    local oldest, before, first = firstFrom('-')
    firstMs, firstBytes = string.match(oldest, '^%d+'), string.format('%.0f', before)
    redis.call('HSET', account, 'first', firstMs .. ' ' .. firstBytes)
    if within() or first == tostring(number) then return end
    redis.call('XDEL', stream, oldest)
    if tries == 4 and bytes - before > tonumber(mostBytes) then
      -- Far too much, as where a large event comes to very many small ones: from which moment on all has room is found by halving.
      local low, high = tonumber(firstMs), tonumber(string.match(newest, '^%d+'))
      while low < high do
        local middle = math.floor((low + high) / 2)
        local id, bytesBefore = firstFrom(string.format('%.0f', middle))
        if bytes - bytesBefore <= tonumber(mostBytes) then high = middle else low = math.min(tonumber((string.match(id, '^%d+'))) + 1, high) end
      end
      redis.call('XTRIM', stream, 'MINID', string.format('%.0f', high))
    end
  end
end
