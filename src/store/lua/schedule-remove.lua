-- include schedule-owner
-- Removes a schedule. KEYS: the schedule, the queue's schedules by when each is due. ARGV: id, the tenants whose it may be as JSON or '' for all.
-- Returns 0 when there is none of theirs, else 1.
if not mayChange(KEYS[1], ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
