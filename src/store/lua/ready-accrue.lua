-- include concurrency
-- Charges jobs in hand for the time until now, so that long ones count while they run. ARGV: inbox prefix, inbox ttl, job ids. At most 50.
local tenants = {}
for i = 3, #ARGV do
  local id = ids.run(ownQueue, ARGV[i])
  local h = ready.heldOf(id)
  if h then
    accounts.accrue(h)
    ready.hold(id, h)
    tenants[h.tenant] = true
  end
end
for name in pairs(tenants) do accounts.save(name) end
return 1
