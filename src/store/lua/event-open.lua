-- include event-group
-- Makes the group unless it is there. ARGV: group, where it begins: `$`, or the id of the entry behind which it does; 1 when its reader had it before, and it was
-- lost meanwhile: then it goes on where it is known to have been.
-- Returns 1 when it was made.
local from = startOf(ARGV[3] == '1' and redis.call('HGET', G, 'last') or ARGV[2], '0')
local made = redis.pcall('XGROUP', 'CREATE', STREAM, group, from, 'MKSTREAM')
if type(made) == 'table' and made.err then
  if not string.find(made.err, 'BUSYGROUP') then return made end
  if redis.call('HEXISTS', G, 'last') == 1 then return 0 end
end
noteStart()
return 1
