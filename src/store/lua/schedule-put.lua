-- include schedule-owner
-- Makes a schedule, or changes it. Other times count from now on; with the same ones nothing that is due is lost.
-- KEYS: the schedule, the queue's schedules by when each is due, what has not ended of one that was removed (schedule-remove.lua). ARGV: id, definition, its times, now, the next time, how many schedules there may be, the
-- tenants whose it may be as JSON or '' for all; its job's tenant or '', how many one tenant's callers may make, what schedules' keys begin with.
-- Returns 'full', 'tenant-full', 'foreign', 'created' or 'changed'.
local schedule, due = KEYS[1], KEYS[2]
if not mayChange(schedule, ARGV[7]) then return 'foreign' end
local known = redis.call('HMGET', schedule, 'times', 'paused', 'tenant')
if not known[1] and redis.call('ZCARD', due) >= tonumber(ARGV[6]) then return 'full' end
local tenant = ARGV[8]
-- One tenant leaves room for the others.
if ARGV[7] ~= '' and known[3] ~= tenant then
  local count = 0
  for _, id in ipairs(redis.call('ZRANGE', due, 0, -1)) do
    if redis.call('HGET', ARGV[10] .. id, 'tenant') == tenant then count = count + 1 end
  end
  if count >= tonumber(ARGV[9]) then return 'tenant-full' end
end
if not known[1] then
  local left = redis.call('HMGET', KEYS[3], 'running', 'version', 'tenant')
  -- Another tenant's are no business of this one's.
  if left[1] and left[3] == tenant then redis.call('HSET', schedule, 'running', left[1], 'version', left[2]) end
  redis.call('DEL', KEYS[3])
end
redis.call('HSET', schedule, 'definition', ARGV[2], 'times', ARGV[3], 'tenant', tenant)
redis.call('HINCRBY', schedule, 'version', 1)
if known[1] ~= ARGV[3] then
  redis.call('HSET', schedule, 'handled', ARGV[4])
  if not known[2] then setDue(schedule, due, ARGV[1], ARGV[5]) end
end
return known[1] and 'changed' or 'created'
