-- The job of a schedule that was to be added is there, and what it replaces is cancelled.
-- KEYS: the schedule, the queue's schedules by when each is due. ARGV: id, the job as it was pending, when the schedule is due next, as it was
-- read in which version: one that was changed since is due when that says, or still, for whoever comes next.
local schedule = KEYS[1]
if redis.call('HGET', schedule, 'pending') ~= ARGV[2] then return 0 end
local version, paused, later = unpack(redis.call('HMGET', schedule, 'version', 'paused', 'then'))
redis.call('HDEL', schedule, 'pending', 'then')
if later then
  redis.call('ZADD', KEYS[2], 'XX', later, ARGV[1])
elseif version == ARGV[4] and not paused then
  redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[1])
end
return 1
