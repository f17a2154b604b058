-- The job of a schedule that was to be added is there, and what it replaces is cancelled.
-- KEYS: the schedule. ARGV: the job, as it was pending.
if redis.call('HGET', KEYS[1], 'pending') == ARGV[1] then redis.call('HDEL', KEYS[1], 'pending') end
return 1
