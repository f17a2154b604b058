-- include accounts
-- What consumers that answer alike can run of a queue, a view each, in classes: see ready.lua.
views.mostClasses, views.mostViews, views.roundMs, views.sweptPerCall, views.sweptClasses = 200, 16, 1000, 128, 8
-- What was read of them; who changes it forgets it.
views.known, views.fits, views.classes = {}, {}, {}

-- lazily views
-- The ids of a queue's views.
function views.of(q)
  if not views.known[q] then views.known[q] = call('ZREVRANGE', keyOf(q, 'views'), 0, views.mostViews - 1) end
  return views.known[q]
end

-- The class of a shape by the word of a view's consumers; false as long as they have not said so, or when they can't run it.
function views.classOf(q, view, shape)
  local id = q .. ' ' .. shape .. ' ' .. view
  if views.fits[id] == nil then views.fits[id] = call('HGET', viewKey(q, view, 'fit'), shape) end
  return views.fits[id]
end

-- { groups, bucket }: the providers of a class.
function views.classAt(q, view, class)
  local id = q .. ' ' .. class .. ' ' .. view
  if not views.classes[id] then views.classes[id] = cjson.decode(call('HGET', viewKey(q, view, 'class'), class) or '[[],"-,-"]') end
  return views.classes[id]
end

-- The providers of a class, whatever their groups.
function views.providersOf(q, view, class)
  local names = {}
  for _, group in ipairs(views.classAt(q, view, class)[1]) do
    for _, name in ipairs(group) do names[#names + 1] = name end
  end
  return names
end

-- The present of a class, where one of its providers gives a turn if that is known: the latest turn at any of them. Who waits for all of them has come to it, and one of them may have
-- had no turn for long. Not at one that is out: whoever waits has its turns with the crowds of the others.
function views.presentOf(q, view, class, provider)
  local presents, names, latest = accounts.presents(), views.providersOf(q, view, class), math.huge
  for _, name in ipairs(provider and { provider } or names) do latest = math.min(latest, presents[name] or 0) end
  for _, name in ipairs(names) do
    local present = presents[name] or 0
    if present > latest and (present <= latest + accounts.apart.seconds or not ledger.isOut(name)) then latest = present end
  end
  return latest
end

-- The present of a class for a tenant that had its last turn at another provider than those; or at one of them that is out, while they have come to less at the others. Nil for any other.
function views.presentFor(a, q, view, class, provider)
  if not a.home then return nil end
  local names, within = views.providersOf(q, view, class), false
  for _, name in ipairs(names) do within = within or name == a.home end
  if not within then return views.presentOf(q, view, class, provider) end
  if not names[2] then return nil end
  local presents, least = accounts.presents(), nil
  for _, name in ipairs(names) do
    if name ~= a.home and (presents[a.home] or 0) - (presents[name] or 0) > accounts.apart.seconds and ledger.isOut(a.home) and not ledger.isOut(name) then
      least = math.max(least or 0, presents[name] or 0)
    end
  end
  return least
end

-- Where a tenant stands among those of a class. One that comes from where more was used stands first: what it owes here is reckoned when it comes up.
function views.placeIn(a, q, view, class)
  local score, present = accounts.scoreOf(a, q), views.presentFor(a, q, view, class)
  return present and score > present and accounts.isApart(a, present) == 'ahead' and present or score
end

-- A tenant among those of a class, where it stands already or `anew`.
function views.stand(q, view, class, name, anew)
  local a, tenants = accounts.of(name), viewKey(q, view, 'a:' .. class)
  local score = accounts.scoreOf(a, q)
  if anew and call('ZADD', tenants, 'NX', accounts.text(score), name) == 0 then return false end
  local place = views.placeIn(a, q, view, class)
  if place < score then
    call('ZADD', tenants, accounts.text(place), name)
    return true
  end
  if not anew then call('ZADD', tenants, accounts.text(score), name) end
  return true
end

function views.leastOf(bucket)
  local cpu, memory = string.match(bucket, '^([^,]*),(.*)$')
  local function least(power) return tonumber(power) and 2 ^ tonumber(power) or 0 end
  return least(cpu), least(memory)
end

-- The first score of a view to the deployment's list of a provider.
function views.show(q, view, provider)
  local least = call('ZRANGE', viewKey(q, view, 'p:' .. provider), 0, 0, 'WITHSCORES')[2]
  local at, name = R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view
  if least then call('ZADD', at, least, name) else call('ZREM', at, name) end
end

-- Takes a view out of a provider's list: nobody takes for it now. Whoever looks for it next puts it back; see `looksAnew`.
function views.hide(q, view, provider)
  call('ZREM', R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view)
  local seenMs = tonumber(call('ZSCORE', keyOf(q, 'views'), view) or nil)
  if seenMs and seenMs > now - views.roundMs then call('ZADD', keyOf(q, 'views'), now - views.roundMs, view) end
end

-- Whether a view's look is to do what need not be done in each: once a second, or after somebody has hidden it; and whether what it had before it was
-- away is to be gone first.
function views.looksAnew(q, view)
  local seenMs = tonumber(call('ZSCORE', keyOf(q, 'views'), view) or nil)
  if seenMs and seenMs <= now and seenMs > now - views.roundMs then return false end
  if not seenMs and call('LPOS', R .. ':garbage', views.garbageOf(q, view)) then return true, true end
  if seenMs ~= now - views.roundMs then call('ZADD', keyOf(q, 'views'), now - views.roundMs, view) end
  if not seenMs then views.known[q] = nil end
  return true, false
end

-- It has been done, of these providers.
function views.showAll(q, view, providers)
  for _, provider in ipairs(providers) do views.show(q, view, provider) end
  call('ZADD', keyOf(q, 'views'), now, view)
end

-- The first score of a class's tenants to the lists of its providers, and theirs to the deployment's. What stands there may be lower, until another class
-- is compared with it and it is to be there `exactly`: most often there is one class, and each job that is taken would cost three commands for each provider.
function views.refresh(q, view, class, exactly)
  local first = call('ZRANGE', viewKey(q, view, 'a:' .. class), 0, 0, 'WITHSCORES')[2]
  local groups = views.classAt(q, view, class)[1]
  -- All providers of a class have the same.
  local listed = groups[1] and groups[1][1] and call('ZSCORE', viewKey(q, view, 'p:' .. groups[1][1]), class)
  if not first and not listed then return end
  if first and listed and (tonumber(listed) == tonumber(first) or (not exactly and tonumber(listed) < tonumber(first))) then return end
  for _, group in ipairs(groups) do
    for _, provider in ipairs(group) do
      local key = viewKey(q, view, 'p:' .. provider)
      if first then call('ZADD', key, first, class) else call('ZREM', key, class) end
      views.show(q, view, provider)
    end
  end
end

function views.cappedAt(q, view, class) return q .. ':' .. ready.epochOf(q) .. ':' .. class .. ':' .. view end

-- Takes a shape of a tenant out of a class. Returns whether it had others there.
function views.forsake(q, view, class, shape, name)
  local shapes = viewKey(q, view, 't:' .. class .. ':' .. name)
  call('ZREM', shapes, shape)
  if call('EXISTS', shapes) == 1 then return true end
  call('ZREM', viewKey(q, view, 'a:' .. class), name)
  call('SREM', R .. ':capped:' .. name, views.cappedAt(q, view, class))
  return false
end

-- Puts a tenant's jobs of a shape into a view, as they are now, `first` being their head; takes them out when there are none. `later` gathers the classes to
-- be refreshed. `scored`: the view where the tenant stands as it should, if there is one.
function views.place(q, view, shape, name, first, later, scored)
  local class = views.classOf(q, view, shape)
  if not class then return end
  local shapes = viewKey(q, view, 't:' .. class .. ':' .. name)
  if first and not unpaid.holds(q, view, shape, name) then
    call('ZADD', shapes, first, shape)
    if view == scored then return end
    if call('SISMEMBER', R .. ':capped:' .. name, views.cappedAt(q, view, class)) == 1 then return end
    if not views.stand(q, view, class, name, true) then return end
  elseif views.forsake(q, view, class, shape, name) then
    return
  end
  if not later then return views.refresh(q, view, class) end
  later[view] = later[view] or {}
  later[view][class] = true
end

-- As `place`, in all views. Returns the head, which the caller may know.
function views.placeAll(q, shape, name, later, first, scored)
  first = first or ready.headOf(q, shape, name)
  for _, view in ipairs(views.of(q)) do views.place(q, view, shape, name, first, later, scored) end
  return first
end

function views.refreshAll(q, later)
  for view, touched in pairs(later) do
    for class in pairs(touched) do views.refresh(q, view, class) end
  end
end

-- lazily views: what is seldom done.
-- A bucket holds demands between two powers of two; what it is at least is told by its name. '-,-' holds any.
function views.bucketOf(milliCpu, memoryMiB)
  local function power(x) return x < 1 and '-' or tostring(math.floor(math.log(x) / math.log(2) + 1e-9)) end
  return power(milliCpu) .. ',' .. power(memoryMiB)
end

-- Enters the class of what these providers can run. Where none has a pool what it takes is all the same; beyond a number the order is left out.
function views.enterClass(q, view, groups, milliCpu, memoryMiB)
  local pooled = false
  for _, group in ipairs(groups) do
    for _, name in ipairs(group) do
      local p = ledger.read(name)
      if p.cpuLimit or p.memoryLimit then pooled = true end
    end
  end
  local json = cjson.encode({ groups, pooled and views.bucketOf(milliCpu, memoryMiB) or '-,-' })
  local class = string.sub(redis.sha1hex(json), 1, 12)
  local known = viewKey(q, view, 'class')
  if call('HEXISTS', known, class) == 0 and call('HLEN', known) >= views.mostClasses then
    local all = {}
    for _, group in ipairs(groups) do
      for _, name in ipairs(group) do all[#all + 1] = name end
    end
    table.sort(all)
    json = cjson.encode({ { all }, '-,-' })
    class = string.sub(redis.sha1hex(json), 1, 12)
  end
  call('HSETNX', known, class, json)
  return class
end

-- A view that nobody looks at any more: it is out of the deployment's lists at once, and is taken apart like an epoch that is over.
function views.garbageOf(q, view) return q .. ':' .. ready.epochOf(q) .. ':' .. view end

-- Whether what changes is written into a view. One that was dropped meanwhile, or is beyond the number of those that are kept, holds what is gone.
function views.isKept(q, view)
  for _, each in ipairs(views.of(q)) do
    if each == view then return true end
  end
  return false
end

function views.withdraw(q, view)
  for _, provider in ipairs(call('SMEMBERS', L)) do call('ZREM', R .. ':at:' .. provider, q .. ':' .. ready.epochOf(q) .. ':' .. view) end
end

function views.drop(q, view)
  views.withdraw(q, view)
  for _, part in ipairs({ 'mapped', 'policy' }) do call('HDEL', keyOf(q, part), view) end
  call('ZREM', keyOf(q, 'views'), view)
  call('RPUSH', R .. ':garbage', views.garbageOf(q, view))
  views.known[q] = nil
end

-- Looks at some of the tenants of a queue's views, from where the last call has come to: { view, class, score }. Whoever stands further behind than it would anew is put there: its
-- provider has gone out since, or it was moved by another queue. Returns from where to go on.
function views.sweep(q, state)
  local all, left = { unpack(views.of(q)) }, views.sweptPerCall
  table.sort(all)
  local view, class, from = unpack(state)
  for _ = 1, views.sweptClasses do
    while all[1] and all[1] < view do table.remove(all, 1) end
    if not all[1] then return { '', '', '-inf' } end
    if all[1] ~= view then view, class, from = all[1], '', '-inf' end
    local classes, tenants = call('HKEYS', viewKey(q, view, 'class')), nil
    table.sort(classes)
    while classes[1] and classes[1] < class do table.remove(classes, 1) end
    if classes[1] and classes[1] ~= class then class, from = classes[1], '-inf' end
    if not classes[1] then
      -- The view behind this one.
      view, class, from = view .. '\0', '', '-inf'
    else
      tenants = viewKey(q, view, 'a:' .. class)
      local found = call('ZRANGEBYSCORE', tenants, from, '+inf', 'WITHSCORES', 'LIMIT', 0, left)
      local names, moved = {}, false
      for i = 1, #found, 2 do names[#names + 1] = found[i] end
      accounts.read(names)
      for i, name in ipairs(names) do
        local a, at = accounts.known[name], tonumber(found[2 * i])
        local place = accounts.scoreOf(a, q)
        if a.home and ledger.isOut(a.home) then place = views.placeIn(a, q, view, class) end
        -- What it has in hand may have put it behind its account.
        if at - place > accounts.apart.seconds and place + accounts.pending(a, accounts.shareOf(name).weight) < at and call('ZADD', tenants, 'XX', 'CH', accounts.text(place), name) == 1 then moved = true end
      end
      if moved then views.refresh(q, view, class, true) end
      if #names < left then
        class, from = class .. '\0', '-inf'
      else
        -- Of very many that stand alike the rest is left out.
        from = found[#found] == from and '(' .. from or found[#found]
      end
      left = left - math.max(1, #names)
      if left <= 0 then break end
    end
  end
  return { view, class, from }
end

-- Puts a tenant back where it waited for its cap, as far as this call goes. Not one that is paused: nothing of it is looked at until it is resumed.
-- `asked`: it is on the list of those who are to be put back.
function views.uncap(name, asked)
  local capped = R .. ':capped:' .. name
  if accounts.shareOf(name).paused then
    call('SREM', R .. ':uncapping', name)
    return
  end
  local some = call('SPOP', capped, ready.patience)
  if #some > 0 then accounts.beginAnew(name) end
  for _, where in ipairs(some) do
    local q, epoch, class, view = string.match(where, '^([^:]*):(%d+):(%x+):(.*)$')
    if not call('ZSCORE', keyOf(q, 'views', epoch), view) then
      call('UNLINK', viewKey(q, view, 't:' .. class .. ':' .. name, epoch))
    elseif epoch == ready.epochOf(q) and call('EXISTS', viewKey(q, view, 't:' .. class .. ':' .. name)) == 1 then
      views.stand(q, view, class, name, false)
      views.refresh(q, view, class)
    end
  end
  if #some == ready.patience and call('EXISTS', capped) == 1 then
    call('SADD', R .. ':uncapping', name)
  elseif #some > 0 or asked then
    call('SREM', R .. ':uncapping', name)
  end
end
