-- include ledger
-- What the providers hold, for who only looks. ARGV: '' twice, names (none for all). Returns JSON.
local names = {}
for i = 3, #ARGV do names[#names + 1] = ARGV[i] end
if #names == 0 then
  for _, name in ipairs(redis.call('SMEMBERS', L)) do
    if not ledger.isOver(ledger.read(name)) then names[#names + 1] = name end
  end
  table.sort(names)
end
return ledger.loadsOf(names)
