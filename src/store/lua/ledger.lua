-- The rules of the slot ledger; every ledger script includes this file. L is KEYS[1], the ledger key:
--   L                    set: names of providers
--   L:provider:<name>    hash: limit, cpuLimit, memoryLimit ('' for none); milliCpu and memoryMiB in use
--   L:leases:<name>      sorted set: lease id -> ms at which it expires, or +inf once a job holds it
--   L:waiters:<name>     sorted set: lease id -> rank * 2^32 + arrival
--   L:lease, L:waiter    hashes: lease id -> JSON
--   L:jobs               hash: job id -> lease id
--   L:arrivals           counter
-- Invariant after every script: whoever stands first among a provider's waiters and fits has been granted the place.
local L = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local inboxPrefix, inboxTtl = ARGV[1], ARGV[2]

local function providerKey(name) return L .. ':provider:' .. name end
local function leasesKey(name) return L .. ':leases:' .. name end
local function waitersKey(name) return L .. ':waiters:' .. name end

local function getLease(id)
  local text = redis.call('HGET', L .. ':lease', id)
  return text and cjson.decode(text) or nil
end

local function getWaiter(id)
  local text = redis.call('HGET', L .. ':waiter', id)
  return text and cjson.decode(text) or nil
end

local function dropWaiter(id, waiter)
  for _, name in ipairs(waiter.candidates) do redis.call('ZREM', waitersKey(name), id) end
  redis.call('HDEL', L .. ':waiter', id)
end

local function dropLease(id, lease)
  redis.call('ZREM', leasesKey(lease.provider), id)
  redis.call('HDEL', L .. ':lease', id)
  redis.call('HINCRBY', providerKey(lease.provider), 'milliCpu', 0 - lease.milliCpu)
  redis.call('HINCRBY', providerKey(lease.provider), 'memoryMiB', 0 - lease.memoryMiB)
  if lease.jobId and redis.call('HGET', L .. ':jobs', lease.jobId) == id then redis.call('HDEL', L .. ':jobs', lease.jobId) end
end

local function take(id, name, holder, milliCpu, memoryMiB, ttl)
  redis.call('ZADD', leasesKey(name), now + ttl, id)
  redis.call('HSET', L .. ':lease', id, cjson.encode({ provider = name, holder = holder, milliCpu = milliCpu, memoryMiB = memoryMiB }))
  redis.call('HINCRBY', providerKey(name), 'milliCpu', milliCpu)
  redis.call('HINCRBY', providerKey(name), 'memoryMiB', memoryMiB)
end

-- Reservations whose holder went away without binding them.
local function expire(name)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leasesKey(name), '-inf', now)) do
    local lease = getLease(id)
    if lease then dropLease(id, lease) else redis.call('ZREM', leasesKey(name), id) end
  end
end

-- 'full', 'unfit' (the pool's rest is too small for this demand) or 'fits'.
local function room(name, milliCpu, memoryMiB)
  local p = redis.call('HMGET', providerKey(name), 'limit', 'cpuLimit', 'memoryLimit', 'milliCpu', 'memoryMiB')
  if redis.call('ZCARD', leasesKey(name)) >= tonumber(p[1] or '0') then return 'full' end
  local cpuLimit, memoryLimit = tonumber(p[2] or ''), tonumber(p[3] or '')
  if cpuLimit and tonumber(p[4] or '0') + milliCpu > cpuLimit then return 'unfit' end
  if memoryLimit and tonumber(p[5] or '0') + memoryMiB > memoryLimit then return 'unfit' end
  return 'fits'
end

-- Gives a provider's free places to its waiters, the first who fits first. `own` learns of its grant by the script's
-- answer, everybody else by the inbox.
local function grant(name, own)
  local first = 0
  while true do
    local ids = redis.call('ZRANGE', waitersKey(name), first, first + 99)
    if #ids == 0 then return end
    for _, id in ipairs(ids) do
      local waiter = getWaiter(id)
      if not waiter then
        redis.call('ZREM', waitersKey(name), id)
      elseif waiter.expiresAt <= now then
        dropWaiter(id, waiter)
      else
        local answer = room(name, waiter.milliCpu, waiter.memoryMiB)
        if answer == 'full' then return end
        if answer == 'fits' then
          dropWaiter(id, waiter)
          take(id, name, waiter.holder, waiter.milliCpu, waiter.memoryMiB, waiter.ttl)
          if id ~= own then
            local inbox = inboxPrefix .. waiter.holder
            redis.call('RPUSH', inbox, cjson.encode({ kind = 'grant', leaseId = id, provider = name }))
            redis.call('PEXPIRE', inbox, inboxTtl)
          end
        else
          first = first + 1
        end
      end
    end
  end
end

local function load(name)
  local p = redis.call('HMGET', providerKey(name), 'limit', 'cpuLimit', 'memoryLimit', 'milliCpu', 'memoryMiB')
  return {
    provider = name,
    limit = tonumber(p[1] or '0'),
    milliCpuLimit = tonumber(p[2] or '') or cjson.null,
    memoryMiBLimit = tonumber(p[3] or '') or cjson.null,
    used = redis.call('ZCARD', leasesKey(name)),
    waiting = redis.call('ZCARD', waitersKey(name)),
    milliCpu = tonumber(p[4] or '0'),
    memoryMiB = tonumber(p[5] or '0'),
  }
end
