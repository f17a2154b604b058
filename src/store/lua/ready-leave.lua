-- include ready-choose
-- What follows when a job leaves the consumers' hands.

-- Gives a place that became free to whoever's turn it is, with its job, and tells that consumer. `own` { holder, view }, of the caller's queue, would take one
-- itself where no other consumer is idler: what it gets is returned, and it is not told. Whoever looks leaves that to it for a moment (`isFetched`).
local function handOn(provider, own)
  choice.anySeldom(ownQueue)
  if ledger.grant(provider) then return nil end
  local free = { [provider] = ledger.read(provider) }
  if ledger.room(free[provider], 0, 0) ~= 'fits' then return nil end
  -- Others may have hidden it while it took none; or dropped it, where its consumers were busy for long without a look: then they look first.
  if own and not call('ZSCORE', R .. ':at:' .. provider, ownQueue .. ':' .. ready.epochOf(ownQueue) .. ':' .. own.view) then
    if call('ZSCORE', keyOf(ownQueue, 'views'), own.view) then views.show(ownQueue, own.view, provider) else own = nil end
  end
  local function receiver(q, view)
    local idle = ledger.idleConsumer(q, view)
    if not idle and own and q == ownQueue and view == own.view then return own.holder end
    return idle
  end
  local found = choice.choose(free, function(q, view) return choice.isOpen(q) and receiver(q, view) ~= nil end, function(q, view, jobId)
    local holder = receiver(q, view)
    return holder, (own and holder == own.holder and 'end/' or 'on/') .. jobId .. '/' .. string.format('%.0f', now)
  end)
  if found and own and found.holder == own.holder then return found end
  if found then ledger.wake(found.q, found.holder, found) elseif ready.spent >= ready.patience then ledger.offer(provider) end
  return nil
end

-- A job leaves the consumers' hands: its tenant's account is settled, it is listed nowhere, and its place goes to the next one. `own`, and what is
-- returned: as of `handOn`. `ended`: with its run. Repeating does nothing.
local function leaveHands(jobId, own, ended)
  -- One that was superseded, or could not be read, may be run again: then it is one as any other. Of one that was listed in an index which is over, that is left too.
  if ready.unlist(ownQueue, jobId) and ended then call('HDEL', bull(ownQueue, jobId), 'sy') end
  -- Whose turn with its key it is decides who of all queues has the first turn, not who is told first.
  keyed.later = {}
  -- The queue's own record of it may be gone.
  keyed.gone(ownQueue, jobId)
  local id = ids.run(ownQueue, jobId)
  ready.settle(id)
  local leaseId = redis.call('HGET', L .. ':jobs', id)
  local lease = leaseId and ledger.getLease(leaseId)
  local given
  if lease then
    ledger.dropLease(leaseId, lease, lease.jobId == id)
    given = handOn(lease.provider, own)
  end
  if keyed.later[1] then keyed.wakeWaiting() else keyed.later = false end
  return given
end
