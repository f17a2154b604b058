-- What is over is taken apart bit by bit: epochs of a queue that has been drained, and views of consumers that are gone (R:garbage in ready.lua). Included behind concurrency.
local tidying = {}

-- How many lists are taken apart at once.
tidying.most = 16

-- lazily tidying
-- Takes a view's lists apart, but for those of tenants.
function tidying.dropLists(q, view, epoch)
  local lists = {}
  for _, class in ipairs(call('HKEYS', viewKey(q, view, 'class', epoch))) do lists[#lists + 1] = viewKey(q, view, 'a:' .. class, epoch) end
  for _, provider in ipairs(call('SMEMBERS', L)) do lists[#lists + 1] = viewKey(q, view, 'p:' .. provider, epoch) end
  for _, part in ipairs({ 'fit', 'class', 'order', 'merge', 'merged' }) do lists[#lists + 1] = viewKey(q, view, part, epoch) end
  call('UNLINK', unpack(lists))
end

function tidying.view(q, epoch, view)
  local left, lists = tidying.most, {}
  for _, class in ipairs(call('HKEYS', viewKey(q, view, 'class', epoch))) do
    local gone = call('ZPOPMIN', viewKey(q, view, 'a:' .. class, epoch), left)
    for i = 1, #gone, 2 do lists[#lists + 1] = viewKey(q, view, 't:' .. class .. ':' .. gone[i], epoch) end
    left = left - #gone / 2
    if left <= 0 then break end
    -- It is not walked past again.
    call('HDEL', viewKey(q, view, 'class', epoch), class)
    left = left - 1
    if left <= 0 then break end
  end
  if #lists > 0 then call('UNLINK', unpack(lists)) end
  if left > 0 then
    tidying.dropLists(q, view, epoch)
    call('LREM', R .. ':garbage', 1, q .. ':' .. epoch .. ':' .. view)
  end
  return math.max(1, #lists)
end

-- Some tenants of a shape of an epoch that is over. Returns how many lists they had.
function tidying.shape(q, epoch, shape, viewIds)
  local gone = call('ZPOPMIN', keyOf(q, 's:' .. shape, epoch), tidying.most)
  local names, lists = {}, {}
  for i = 1, #gone, 2 do
    names[#names + 1] = gone[i]
    lists[#lists + 1] = keyOf(q, 'j:' .. shape .. ':' .. gone[i], epoch)
  end
  for _, view in ipairs(viewIds) do
    local class = #names > 0 and call('HGET', viewKey(q, view, 'fit', epoch), shape)
    for _, name in ipairs(class and names or {}) do lists[#lists + 1] = viewKey(q, view, 't:' .. class .. ':' .. name, epoch) end
  end
  if #names > 0 and not keyed.isLine(shape) then
    accounts.read(names)
    for _, name in ipairs(names) do accounts.known[name].heaps = accounts.known[name].heaps - 1 end
    accounts.saveAll(names)
  end
  if #names < tidying.most then
    call('ZREM', keyOf(q, 'shapes', epoch), shape)
    if keyed.isLine(shape) then
      local key = string.sub(shape, 2)
      lists[#lists + 1] = keyOf(q, 'line:' .. key, epoch)
      keyed.quiet(q, key)
    end
  end
  if #lists > 0 then call('UNLINK', unpack(lists)) end
  return math.max(1, #names)
end

-- Takes what is over apart: a bounded part of it in each call. It costs some ten commands however many lists they are, but for the keys that are
-- dropped. Returns how many they were, or shapes; 0 when nothing is left.
function tidying.some()
  local old = call('LINDEX', R .. ':garbage', 0)
  if not old then return 0 end
  local q, epoch, view = ledger.parseView(old)
  if view then return tidying.view(q, epoch, view) end
  q, epoch = string.match(old, '^([^:]*):(%d+)$')
  local shape = call('ZRANGE', keyOf(q, 'shapes', epoch), 0, 0)[1]
  local viewIds = call('ZRANGE', keyOf(q, 'views', epoch), 0, views.mostViews - 1)
  if shape then return tidying.shape(q, epoch, shape, viewIds) end
  local fronts = call('HSCAN', keyOf(q, 'front', epoch), '0', 'COUNT', tidying.most)[2]
  if #fronts > 0 then
    local lists, fields = {}, {}
    for i = 1, #fronts, 2 do
      local key = string.match(fronts[i + 1], '^%x+')
      fields[#fields + 1] = fronts[i]
      lists[#lists + 1] = keyOf(q, 'f:' .. key, epoch)
      lists[#lists + 1] = keyOf(q, 'aside:' .. key, epoch)
      keyed.quiet(q, key)
    end
    call('UNLINK', unpack(lists))
    call('HDEL', keyOf(q, 'front', epoch), unpack(fields))
    return #fields
  end
  if viewIds[1] then
    tidying.dropLists(q, viewIds[1], epoch)
    call('ZREM', keyOf(q, 'views', epoch), viewIds[1])
    return 1
  end
  local parts = {}
  for _, part in ipairs({ 'shape', 'demand', 'shapes', 'mapped', 'views', 'policy', 'deadline', 'stuck', 'passed', 'over', 'aside', 'empty', 'skipped' }) do parts[#parts + 1] = keyOf(q, part, epoch) end
  call('UNLINK', unpack(parts))
  call('LPOP', R .. ':garbage')
  return 1
end
