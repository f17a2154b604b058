-- include ledger
-- What the providers hold. ARGV: inbox prefix, inbox ttl, names (none for all). Returns JSON.
local names = {}
for i = 3, #ARGV do names[#names + 1] = ARGV[i] end
if #names == 0 then
  names = redis.call('SMEMBERS', L)
  table.sort(names)
end
for _, name in ipairs(names) do
  expire(name)
  grant(name)
end
return loadsOf(names)
