-- A consumer says what it has, for a while; repeating it keeps it believed. What nobody repeats goes.
-- KEYS[1], C, is the deployment's roster, KEYS[2], R, the index of the queue that it serves:
--   C            sorted set: consumer id -> ms until which it is believed
--   C:said       hash: consumer id -> JSON, for people (src/store/roster.ts)
--   C:live       sorted set: profile id -> ms until which some consumer with it is believed
--   C:profile    hash: profile id -> JSON { queue, release, providers, secrets }
-- KEYS[3] says how everything is laid out.
-- ARGV: consumer id, for how many ms, what it says as JSON, profile id, profile as JSON, the tenants' shares that it knows as JSON or '', since when
--       they hold in ms, '' for now, the layout that it knows. Returns {'newer', layout} where that is not the one, and nothing was written; else {the shares that hold as JSON or '', since when, the providers that live consumers of this queue have, what this
--       consumer had said before as JSON or '', Redis' time in ms, the longest for which one of the live consumers asks to be believed, where that is far longer than this one does, else what this one asks for}.
local C, R = KEYS[1], KEYS[2]
local id, ttl, profile = ARGV[1], tonumber(ARGV[2]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local layout = tonumber(redis.call('GET', KEYS[3]))
if layout and layout > tonumber(ARGV[8]) then return { 'newer', tostring(layout) } end
-- At each, for a Redis that has lost it, or where something else stands there.
if not layout then redis.call('SET', KEYS[3], ARGV[8]) end

-- Before it goes because its time is over: a Redis that went back knows by this what it has lost.
local before = redis.call('HGET', C .. ':said', id) or ''

-- Redis' clock may have been set back: nobody is believed for longer than they asked for, which may be for far longer than this one asks.
local longest = ttl
local others = redis.call('ZRANGEBYSCORE', C, now + 5 * ttl, '+inf', 'WITHSCORES')
for i = 1, #others, 2 do
  local name, untilMs = others[i], tonumber(others[i + 1])
  -- Of this one it is known anyway.
  local readable, said = pcall(cjson.decode, name ~= id and redis.call('HGET', C .. ':said', name) or '')
  local asked = readable and type(said) == 'table' and tonumber(said.ttlMs) or nil
  if not asked and untilMs >= now + 10 * ttl then asked = ttl end
  if asked then
    longest = math.max(longest, asked)
    if untilMs > now + asked then redis.call('ZADD', C, now + asked, name) end
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', C .. ':live', now + math.max(10 * ttl, longest + 1), '+inf')) do redis.call('ZADD', C .. ':live', now + longest, name) end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', C, '-inf', now)) do
  redis.call('ZREM', C, name)
  redis.call('HDEL', C .. ':said', name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', C .. ':live', '-inf', now)) do
  redis.call('ZREM', C .. ':live', name)
  redis.call('HDEL', C .. ':profile', name)
end
redis.call('ZADD', C, now + ttl, id)
redis.call('HSET', C .. ':said', id, ARGV[3])
redis.call('ZADD', C .. ':live', 'GT', now + ttl, profile)
redis.call('HSET', C .. ':profile', profile, ARGV[5])
for _, key in ipairs({ C, C .. ':said', C .. ':live', C .. ':profile' }) do redis.call('PEXPIRE', key, 10 * longest) end

-- The shares belong to the deployment: those that were configured last hold, and whoever remembers them brings them back to a Redis
-- that has lost them. Nobody takes them away by having none.
local since = tonumber(redis.call('HGET', R .. ':shares', '') or '-1')
local from = ARGV[7] == '' and math.max(now, since + 1) or tonumber(ARGV[7])
if ARGV[6] ~= '' and from > since then
  redis.call('DEL', R .. ':shares')
  for name, share in pairs(cjson.decode(ARGV[6])) do redis.call('HSET', R .. ':shares', name, cjson.encode(share)) end
  since = from
  redis.call('HSET', R .. ':shares', '', string.format('%.0f', since))
end

local queueName, names, seen = cjson.decode(ARGV[5]).queue, {}, {}
for _, name in ipairs(redis.call('ZRANGE', C .. ':live', 0, -1)) do
  local text = redis.call('HGET', C .. ':profile', name)
  local live = text and cjson.decode(text)
  for _, provider in ipairs(live and live.queue == queueName and live.providers or {}) do
    if not seen[provider] then names[#names + 1] = provider end
    seen[provider] = true
  end
end
if since < 0 then return { '', 0, names, before, now, longest } end
local shares, fields = {}, redis.call('HGETALL', R .. ':shares')
for i = 1, #fields, 2 do
  if fields[i] ~= '' then shares[fields[i]] = cjson.decode(fields[i + 1]) end
end
return { cjson.encode(shares), since, names, before, now, longest }
