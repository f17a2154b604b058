-- include ledger
-- The index of a queue's waiting jobs: what BullMQ's own order can't say. R is KEYS[2]:
--   R:of                    hash: job id -> constraints id .. ' ' .. tenant
--   R:constraints           hash: constraints id -> JSON (src/job/constraints.ts)
--   R:count                 hash: constraints id -> how many jobs have them
--   R:jobs:<id>:<tenant>    sorted set: job id -> priority * 2^32 + arrival
--   R:heads:<tenant>        sorted set: constraints id -> score of the first of those jobs
--   R:turns                 sorted set: tenant -> virtual time, of tenants with waiting jobs
--   R:tenant                hash: tenant -> JSON { vt, mean, held } while it has jobs waiting or in hand
--   R:shares                hash: tenant -> JSON { weight, cap }, as configured; '*' for all others; '' -> since when, in ms
--   R:held                  hash: job id -> JSON { tenant, at, charged, secrets } of jobs in consumers' hands
--   R:deadline              sorted set: job id -> ms at which its time to wait is over, of those that have one
--   R:unfit                 hash: see fitness.lua
--   R:passed                hash: constraints id .. ' ' .. tenant -> ms since when smaller jobs pass its first one
--   R:arrivals, R:now       counter; the virtual time of the latest turn
--
-- Tenants take turns by virtual time: seconds of sandbox used, divided by the tenant's weight. A job is charged its tenant's
-- mean when it is taken, and the difference when it has ended. Who comes back after a pause begins at the present.
local function tenantOf(name)
  local text = redis.call('HGET', R .. ':tenant', name)
  return text and cjson.decode(text) or { vt = 0, mean = 1, held = 0 }
end

local function shareOf(name)
  if name == '' then name = '*' end
  local text = redis.call('HGET', R .. ':shares', name) or redis.call('HGET', R .. ':shares', '*')
  return text and cjson.decode(text) or { weight = 1 }
end

local function saveTenant(name, tenant)
  if tenant.held <= 0 and redis.call('EXISTS', R .. ':heads:' .. name) == 0 then
    redis.call('HDEL', R .. ':tenant', name)
    redis.call('ZREM', R .. ':turns', name)
  else
    redis.call('HSET', R .. ':tenant', name, cjson.encode(tenant))
    if redis.call('EXISTS', R .. ':heads:' .. name) == 1 then
      redis.call('ZADD', R .. ':turns', string.format('%.6f', tenant.vt), name)
    else
      redis.call('ZREM', R .. ':turns', name)
    end
  end
end

-- Takes a job out of the index, wherever it stands in it. Returns its tenant, or nil.
local function unlist(jobId)
  local where = redis.call('HGET', R .. ':of', jobId)
  if not where then return nil end
  local id, name = string.match(where, '^(%S+) (.*)$')
  local jobs, heads = R .. ':jobs:' .. id .. ':' .. name, R .. ':heads:' .. name
  redis.call('HDEL', R .. ':of', jobId)
  redis.call('ZREM', R .. ':deadline', jobId)
  redis.call('ZREM', jobs, jobId)
  local first = redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', heads, first[2], id)
  else
    redis.call('ZREM', heads, id)
    redis.call('HDEL', R .. ':passed', where)
  end
  if redis.call('HINCRBY', R .. ':count', id, -1) <= 0 then
    redis.call('HDEL', R .. ':count', id)
    redis.call('HDEL', R .. ':constraints', id)
    redis.call('HDEL', R .. ':unfit', id)
  end
  saveTenant(name, tenantOf(name))
  return name
end

-- Settles a tenant's account of a job that is out of the consumers' hands.
local function settle(jobId)
  redis.call('HDEL', R .. ':unfit', jobId)
  local text = redis.call('HGET', R .. ':held', jobId)
  if text then
    local held = cjson.decode(text)
    redis.call('HDEL', R .. ':held', jobId)
    local tenant = tenantOf(held.tenant)
    local used = (now - held.at) / 1000
    tenant.vt = math.max(0, tenant.vt + (used - held.charged) / shareOf(held.tenant).weight)
    tenant.mean = math.max(0.05, tenant.mean * 0.8 + used * 0.2)
    tenant.held = tenant.held - 1
    saveTenant(held.tenant, tenant)
  end
end
