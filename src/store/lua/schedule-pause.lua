-- include schedule-owner
-- Pauses a schedule or resumes it.
-- KEYS: the schedule, the queue's schedules by when each is due. ARGV: id, now; when it is due if it is resumed, '' to pause it; the tenants whose it may
-- be as JSON, '' for all.
-- Returns 0 when there is none of theirs, else 1.
local schedule, due = KEYS[1], KEYS[2]
if redis.call('EXISTS', schedule) == 0 or not mayChange(schedule, ARGV[4]) then return 0 end
local paused = redis.call('HEXISTS', schedule, 'paused') == 1
if ARGV[3] == '' and not paused then
  redis.call('HSET', schedule, 'paused', ARGV[2])
  redis.call('HINCRBY', schedule, 'version', 1)
  setDue(schedule, due, ARGV[1], 'inf')
elseif ARGV[3] ~= '' and paused then
  redis.call('HDEL', schedule, 'paused')
  redis.call('HINCRBY', schedule, 'version', 1)
  setDue(schedule, due, ARGV[1], ARGV[3])
end
return 1
