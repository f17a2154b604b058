-- include ledger
-- Takes a place at the first candidate with room, or enrols a waiter.
-- ARGV: inbox prefix, inbox ttl, lease id, holder, milliCpu, memoryMiB, ttl, rank ('' to not wait), candidates' limits as JSON.
-- Returns {provider or '', loads as JSON ('[]' with a provider), ms until a candidate may have room without a place given back or ''}.
--
-- A newcomer is enrolled behind everybody of its rank and then places are granted: no overtaking, one set of rules. Where nobody
-- waits the outcome is known before: it is spared the enrolment.
local id, holder, milliCpu, memoryMiB, ttl = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local rank = tonumber(ARGV[8])
local limits = cjson.decode(ARGV[9])
ledger.configure(limits)
local candidates = {}
for _, each in ipairs(limits) do candidates[#candidates + 1] = each.provider end

local lease, waiter = ledger.getLease(id), ledger.getWaiter(id)
if not lease and not waiter then
  for _, name in ipairs(candidates) do
    if ledger.anyWaits() and redis.call('ZCARD', ledger.waitersKey(name)) > 0 then break end
    if ledger.room(ledger.read(name), milliCpu, memoryMiB) == 'fits' then
      ledger.take(id, name, holder, milliCpu, memoryMiB, ttl)
      return { name, '[]', '' }
    end
  end
end

if lease then
  -- Asked again while a grant was on its way, or after a lost answer.
  if not lease.jobId then redis.call('ZADD', ledger.leasesKey(lease.provider), 'XX', now + ttl, id) end
else
  local arrival, since
  if waiter then
    arrival, since = waiter.arrival, waiter.since
    ledger.dropWaiter(id, waiter)
  else
    arrival, since = redis.call('INCR', L .. ':arrivals'), now
  end
  waiter = { holder = holder, candidates = candidates, milliCpu = milliCpu, memoryMiB = memoryMiB, ttl = ttl, expiresAt = now + ttl, arrival = arrival, since = since }
  redis.call('HSET', L .. ':waiter', id, cjson.encode(waiter))
  ledger.waits = true
  for _, name in ipairs(candidates) do
    redis.call('ZADD', ledger.waitersKey(name), string.format('%.0f', (rank or 0) * 4294967296 + arrival % 4294967296), id)
  end
end
for _, name in ipairs(candidates) do ledger.grant(name, id) end
if not lease then
  lease = ledger.getLease(id)
  if not lease and not rank then ledger.dropWaiter(id, ledger.getWaiter(id)) end
end
if lease then return { lease.provider, '[]', '' } end

local soonest = ''
for _, name in ipairs(candidates) do
  local ms = ledger.opensIn(ledger.read(name))
  if ms and (soonest == '' or ms < soonest) then soonest = ms end
end
-- Who is behind the part that this call did goes on at once.
return { '', ledger.loadsOf(candidates), ledger.more and 1 or soonest }
