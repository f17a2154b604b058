-- include ledger
-- include audit
-- What an operator says of a provider, for all consumers and until it is taken back: no new sandboxes there, or another limit. What runs goes on.
-- ARGV: inbox prefix, inbox ttl, provider, 'drain' or 'set', what is said as JSON { by, reason, move } or { by, reason, limit }, '' to take it back; for how many
--       ms it holds, '' for until it is taken back; the entry of the audit log. KEYS[4]: the audit log.
-- Returns {'unknown'} where no consumer has that provider; or {'changed' or 'same', how it was as JSON or '', how it is as JSON or '', the configured limit}.
local name, field = ARGV[3], ARGV[4]
if redis.call('SISMEMBER', L, name) == 0 then return { 'unknown' } end
local p = ledger.read(name)
local before, said = p[field], ARGV[5] ~= '' and cjson.decode(ARGV[5]) or nil

local function told(control) return control and cjson.encode(ledger.shown(control)) or '' end

-- Said again without anything new: who said it first, and when, stays.
local function isSame()
  if not said or not before then return not said and not before end
  if before.untilMs or ARGV[6] ~= '' then return false end
  return before.limit == said.limit and (not said.reason or said.reason == before.reason) and (not said.move or before.move == said.move)
end

if isSame() then return { 'same', told(before), told(before), p.configured } end
local earlier = told(before)
if said then
  said.atMs = redisNow
  if ARGV[6] ~= '' then said.untilMs = now + tonumber(ARGV[6]) end
  redis.call('HSET', ledger.providerKey(name), field, cjson.encode(said))
else
  redis.call('HDEL', ledger.providerKey(name), field)
end
audit(ARGV[7], earlier, told(said))
ledger.forget(name)
-- There may be many places at once now: of whoever's turn it is, some are woken, and these find the rest.
local most = 8
for _ = 1, most do ledger.offer(name) end
return { 'changed', earlier, told(said), p.configured }
