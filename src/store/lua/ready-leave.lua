-- include ready-choose
-- What follows when a job leaves the consumers' hands.

-- Gives a place that became free to whoever's turn it is, with its job, and tells that consumer. `own` { holder, view }, of the caller's queue, would take one
-- itself where no other consumer is idler: what it gets is returned, and it is not told. Whoever looks leaves that to it for a moment (`isFetched`).
local function handOn(provider, own)
  if grant(provider) then return nil end
  local free = { [provider] = read(provider) }
  if room(free[provider], 0, 0) ~= 'fits' then return nil end
  local function receiver(q, view)
    local idle = idleConsumer(q, view)
    if not idle and own and q == ownQueue and view == own.view then return own.holder end
    return idle
  end
  local found = choose(free, function(q, view) return isOpen(q) and receiver(q, view) ~= nil end, function(q, view, jobId)
    local holder = receiver(q, view)
    return holder, (own and holder == own.holder and 'end/' or 'on/') .. jobId .. '/' .. string.format('%.0f', now)
  end)
  if found and own and found.holder == own.holder then return found end
  if found then wake(found.q, found.holder) elseif spent >= patience then offer(provider) end
  return nil
end

-- A job leaves the consumers' hands: its tenant's account is settled, it is listed nowhere, and its place goes to the next one. `own`, and what is
-- returned: as of `handOn`. Repeating does nothing.
local function leaveHands(jobId, own)
  unlist(ownQueue, jobId)
  -- The queue's own record of it may be gone.
  keyed.gone(ownQueue, jobId)
  local id = ids.run(ownQueue, jobId)
  settle(id)
  local leaseId = redis.call('HGET', L .. ':jobs', id)
  local lease = leaseId and getLease(leaseId)
  if not lease then return nil end
  dropLease(leaseId, lease, lease.jobId == id)
  expire(lease.provider)
  return handOn(lease.provider, own)
end
