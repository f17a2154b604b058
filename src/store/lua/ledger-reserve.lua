-- include ledger
-- Takes a place at the first candidate with room, or enrols a waiter.
-- KEYS: ledger. ARGV: inbox prefix, inbox ttl, lease id, holder, milliCpu, memoryMiB, ttl, rank ('' to not wait),
--       then for each candidate: name, limit, cpu limit or '', memory limit or ''.
-- Returns {provider or '', loads as JSON}.
--
-- A newcomer is enrolled behind everybody of its rank and then places are granted: no overtaking, one set of rules.
local id, holder, milliCpu, memoryMiB, ttl = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local rank = tonumber(ARGV[8])
local candidates = {}
for i = 9, #ARGV, 4 do
  local name = ARGV[i]
  candidates[#candidates + 1] = name
  redis.call('SADD', L, name)
  -- The limits of whoever asked last hold for all: they come from configuration, which is the same everywhere but
  -- during a rolling change of it.
  redis.call('HSET', providerKey(name), 'limit', ARGV[i + 1], 'cpuLimit', ARGV[i + 2], 'memoryLimit', ARGV[i + 3])
  expire(name)
end

local lease = getLease(id)
if lease then
  -- Asked again while a grant was on its way, or after a lost answer.
  if not lease.jobId then redis.call('ZADD', leasesKey(lease.provider), 'XX', now + ttl, id) end
else
  local waiter = getWaiter(id)
  local arrival
  if waiter then
    arrival = waiter.arrival
    dropWaiter(id, waiter)
  else
    arrival = redis.call('INCR', L .. ':arrivals')
  end
  waiter = { holder = holder, candidates = candidates, milliCpu = milliCpu, memoryMiB = memoryMiB, ttl = ttl, expiresAt = now + ttl, arrival = arrival }
  redis.call('HSET', L .. ':waiter', id, cjson.encode(waiter))
  for _, name in ipairs(candidates) do
    redis.call('ZADD', waitersKey(name), string.format('%.0f', (rank or 0) * 4294967296 + arrival % 4294967296), id)
  end
end
for _, name in ipairs(candidates) do grant(name, id) end
if not lease then
  lease = getLease(id)
  if not lease and not rank then dropWaiter(id, getWaiter(id)) end
end

local loads = {}
for _, name in ipairs(candidates) do loads[#loads + 1] = load(name) end
return { lease and lease.provider or '', cjson.encode(loads) }
