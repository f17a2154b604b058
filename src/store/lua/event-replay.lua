-- include event-group
-- Sets a group back, or on: it gets every event behind an entry (again). What it is not done with stays. ARGV: group, the entry's id.
local set = redis.pcall('XGROUP', 'SETID', STREAM, group, startOf(ARGV[2], '$'))
if type(set) == 'table' and set.err then return set end
noteStart()
return 1
