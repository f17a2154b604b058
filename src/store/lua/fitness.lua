-- include concurrency
-- Who may run a job. Consumers may differ: what each has stands in the roster (roster-announce.lua), what it refuses to run stands here:
--   R:q:<queue>:unfit    hash: shape, or id of a job in hand -> JSON { since, by = { profile id = { why, untilMs } } }; since when nobody may run it
-- A job is given up only when no live consumer's profile may run it, for longer than a grace; whoever asks is live.
local fitness = {}
local C = string.gsub(L, ':ledger$', ':consumers')
local unfit = R .. ':q:' .. ownQueue .. ':unfit'
-- Without a write for so long what was refused is forgotten, and told anew.
fitness.unfitTtlMs = 3600000
-- Not asked for as yet.
fitness.liveProfiles = false

function fitness.asSet(list)
  local set = {}
  for _, name in ipairs(list or {}) do set[name] = true end
  return set
end

-- lazily fitness
-- The live profiles of this queue: id -> { providers, secrets }, both as sets. The roster goes by Redis' own clock, which the deployment's is ahead of once it was set back.
function fitness.profiles()
  if fitness.liveProfiles then return fitness.liveProfiles end
  fitness.liveProfiles = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', C .. ':live', redisNow, '+inf')) do
    local text = redis.call('HGET', C .. ':profile', id)
    local profile = text and cjson.decode(text)
    if profile and profile.queue == ownQueue then fitness.liveProfiles[id] = { providers = fitness.asSet(profile.providers), secrets = fitness.asSet(profile.secrets) } end
  end
  return fitness.liveProfiles
end

function fitness.refusalsOf(subject)
  local text = redis.call('HGET', unfit, subject)
  return text and cjson.decode(text) or { by = {} }
end

function fitness.saveRefusals(subject, refusals)
  redis.call('HSET', unfit, subject, cjson.encode(refusals))
  redis.call('PEXPIRE', unfit, fitness.unfitTtlMs)
end

function fitness.refuses(refusals, profile)
  local each = refusals.by[profile]
  return each and (not each.untilMs or each.untilMs > now)
end

-- What is refused for a while only may be run by that very profile later: nobody gives the job up for it.
function fitness.refusesForGood(refusals, profile)
  local each = refusals.by[profile]
  return each and not each.untilMs
end

-- For how many ms no live profile may run it, so far as is known; nil when one may. `fits` says of a profile whether it has what is needed.
function fitness.nobodySince(subject, refusals, fits)
  for id, profile in pairs(fitness.profiles()) do
    if fits(profile) and not fitness.refusesForGood(refusals, id) then
      if refusals.since then
        refusals.since = nil
        fitness.saveRefusals(subject, refusals)
      end
      return nil
    end
  end
  if not refusals.since or refusals.since > now then
    refusals.since = now
    fitness.saveRefusals(subject, refusals)
  end
  return now - refusals.since
end

function fitness.anyProfile() return true end

-- Why no live profile may run it, as a JSON list.
function fitness.reasons(refusals)
  local list = {}
  for id in pairs(fitness.profiles()) do
    if refusals.by[id] then list[#list + 1] = refusals.by[id].why end
  end
  return #list == 0 and '[]' or cjson.encode(list)
end

-- A profile refuses a subject. Returns for how many ms nobody may run it; nil when somebody may.
function fitness.refuse(subject, profile, why, forMs)
  local refusals = fitness.refusalsOf(subject)
  local before = refusals.by[profile]
  if forMs or not before or before.why ~= why or before.untilMs then
    refusals.by[profile] = { why = why, untilMs = forMs and now + forMs or nil }
    fitness.saveRefusals(subject, refusals)
  end
  return fitness.nobodySince(subject, refusals, fitness.anyProfile), refusals
end

-- A shape that nobody can run is to be looked at again after the grace: then its jobs are ended.
function fitness.refuseShape(shape, profile, why, forMs)
  local sinceMs, refusals = fitness.refuse(shape, profile, why, forMs)
  if sinceMs then call('ZADD', keyOf(ownQueue, 'stuck'), 'NX', now - sinceMs, shape) else call('ZREM', keyOf(ownQueue, 'stuck'), shape) end
  return sinceMs, refusals
end
