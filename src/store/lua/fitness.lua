-- include ready
-- Who may run a job. Consumers may differ: what each has stands in the roster (roster-announce.lua), what it refuses to run stands here:
--   R:unfit    hash: constraints id, or id of a job in hand -> JSON { since, by = { profile id = { why, untilMs } } }; since when nobody may run it
-- A job is given up only when no live consumer's profile may run it, for longer than a grace; whoever asks is live.
local C = string.gsub(L, ':ledger$', ':consumers')
local queueName = string.match(R, ':ready:(.*)$')
-- Without a write for so long what was refused is forgotten, and told anew.
local unfitTtlMs = 3600000

local function asSet(list)
  local set = {}
  for _, name in ipairs(list or {}) do set[name] = true end
  return set
end

-- The live profiles of this queue: id -> { providers, secrets }, both as sets.
local liveProfiles = nil
local function profiles()
  if liveProfiles then return liveProfiles end
  liveProfiles = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', C .. ':live', now, '+inf')) do
    local text = redis.call('HGET', C .. ':profile', id)
    local profile = text and cjson.decode(text)
    if profile and profile.queue == queueName then liveProfiles[id] = { providers = asSet(profile.providers), secrets = asSet(profile.secrets) } end
  end
  return liveProfiles
end

local function refusalsOf(subject)
  local text = redis.call('HGET', R .. ':unfit', subject)
  return text and cjson.decode(text) or { by = {} }
end

local function saveRefusals(subject, refusals)
  redis.call('HSET', R .. ':unfit', subject, cjson.encode(refusals))
  redis.call('PEXPIRE', R .. ':unfit', unfitTtlMs)
end

local function refuses(refusals, profile)
  local each = refusals.by[profile]
  return each and (not each.untilMs or each.untilMs > now)
end

-- What is refused for a while only may be run by that very profile later: nobody gives the job up for it.
local function refusesForGood(refusals, profile)
  local each = refusals.by[profile]
  return each and not each.untilMs
end

-- For how many ms no live profile may run it, so far as is known; nil when one may. `fits` says of a profile whether it has what is needed.
local function nobodySince(subject, refusals, fits)
  for id, profile in pairs(profiles()) do
    if fits(profile) and not refusesForGood(refusals, id) then
      if refusals.since then
        refusals.since = nil
        saveRefusals(subject, refusals)
      end
      return nil
    end
  end
  if not refusals.since or refusals.since > now then
    refusals.since = now
    saveRefusals(subject, refusals)
  end
  return now - refusals.since
end

local function anyProfile() return true end

-- Why no live profile may run it, as a JSON list.
local function reasons(refusals)
  local list = {}
  for id in pairs(profiles()) do
    if refusals.by[id] then list[#list + 1] = refusals.by[id].why end
  end
  return #list == 0 and '[]' or cjson.encode(list)
end
