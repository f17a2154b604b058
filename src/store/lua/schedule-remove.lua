-- Removes a schedule. KEYS: the schedule, the queue's schedules by when each is due. ARGV: id. Returns 0 when there is none, else 1.
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
