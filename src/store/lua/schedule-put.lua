-- include schedule-owner
-- Makes a schedule, or changes it. Other times count from now on; with the same ones nothing that is due is lost.
-- KEYS: the schedule, the queue's schedules by when each is due. ARGV: id, definition, its times, now, the next time, how many schedules there may be, the
-- tenants whose it may be as JSON or '' for all. Returns 'full', 'foreign', 'created' or 'changed'.
local schedule, due = KEYS[1], KEYS[2]
if not mayChange(schedule, ARGV[7]) then return 'foreign' end
local known = redis.call('HMGET', schedule, 'times', 'paused')
if not known[1] and redis.call('ZCARD', due) >= tonumber(ARGV[6]) then return 'full' end
redis.call('HSET', schedule, 'definition', ARGV[2], 'times', ARGV[3])
redis.call('HINCRBY', schedule, 'version', 1)
if known[1] ~= ARGV[3] then
  redis.call('HSET', schedule, 'handled', ARGV[4])
  if not known[2] then redis.call('ZADD', due, ARGV[5], ARGV[1]) end
end
return known[1] and 'changed' or 'created'
