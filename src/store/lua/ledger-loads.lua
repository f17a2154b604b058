-- include ledger
-- What the providers hold. ARGV: inbox prefix, inbox ttl, names (none for all). Returns JSON.
local names = {}
for i = 3, #ARGV do names[#names + 1] = ARGV[i] end
if #names == 0 then
  for _, name in ipairs(redis.call('SMEMBERS', L)) do
    -- A provider that is in no consumer's configuration any more is forgotten after a day, unless an operator's word holds for it.
    ledger.expire(name)
    local p = ledger.read(name)
    if p.askedAt and now - p.askedAt > 86400000 and p.used == 0 and not p.drain and not p.set then
      redis.call('SREM', L, name)
      redis.call('DEL', ledger.providerKey(name), L .. ':starts:' .. name)
    else
      names[#names + 1] = name
    end
  end
  table.sort(names)
end
for _, name in ipairs(names) do
  ledger.grant(name)
end
return ledger.loadsOf(names)
