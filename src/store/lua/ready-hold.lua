-- include concurrency
-- include costs
-- A tenant's budget can't pay for what jobs of a shape need at the least, where consumers of a view would have them run: they wait in the index.
-- ARGV: inbox prefix, inbox ttl, C (costs.lua), tenant, shape, view, why, when the day ends in ms, stamp of the budgets by which it is so, days as JSON.
-- Returns 1, or 0 when the budgets are others by now, or nothing of it waits.
local base, name, shape, view = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if call('EXISTS', ready.jobsKey(ownQueue, shape, name)) == 0 then return 0 end
if costs.stamp(base, costs.today(cjson.decode(ARGV[10])), name) ~= ARGV[9] then return 0 end
unpaid.hold(ownQueue, view, shape, name, ARGV[7], ARGV[8], string.match(ARGV[9], '^%d+'))
keyed.makeWay(ownQueue, shape, name)
return 1
