-- include operate
-- include audit
-- An operator pauses a tenant, or gives it another share, or takes either back.
-- ARGV: inbox prefix, inbox ttl, tenant, 'pause' or 'share', what is said as JSON { by, reason } or { by, reason, weight, cap }, '' to take it back; for how many
--       ms it holds, '' for until it is taken back; 1 for a tenant that nobody knows of yet; the entry of the audit log. KEYS[4]: the audit log.
-- Returns {'unknown' or 'full'}; or {'changed' or 'same', how it was as JSON or '', how it is as JSON or ''}.
local name, what = ARGV[3], ARGV[4]
local set = R .. ':set'
if call('HEXISTS', R .. ':tenant', name) == 0 and call('HEXISTS', R .. ':shares', name) == 0 and call('HEXISTS', set, name) == 0 and ARGV[7] ~= '1' then return { 'unknown' } end
local said = operate.saidOf(name)
local before, new = said[what], ARGV[5] ~= '' and cjson.decode(ARGV[5]) or nil
if new and call('HEXISTS', set, name) == 0 and call('HLEN', set) >= operate.mostTenants then return { 'full' } end
local function told(each) return each and cjson.encode(ledger.shown(each)) or '' end

-- Said again without anything new: who said it first, and when, stays.
local function isSame()
  if not new or not before then return not new and not before end
  if before.untilMs or ARGV[6] ~= '' then return false end
  return before.weight == new.weight and before.cap == new.cap and (not new.reason or new.reason == before.reason)
end

if isSame() then return { 'same', told(before), told(before) } end
local earlier = told(before)
if new then
  new.atMs = redisNow
  if ARGV[6] ~= '' then new.untilMs = now + tonumber(ARGV[6]) end
end
said[what] = new
audit(ARGV[8], earlier, told(new))
operate.say(name, said)
return { 'changed', earlier, told(new) }
