-- include ledger
-- What providers hold, once those that wait for a place there have what is free. ARGV: inbox prefix, inbox ttl, names. Returns JSON.
local names = {}
for i = 3, #ARGV do names[#names + 1] = ARGV[i] end
for _, name in ipairs(names) do
  ledger.grant(name)
end
return ledger.loadsOf(names)
