-- include schedule-owner
-- Removes a schedule. What has not ended of it is kept, for one that is made anew under its id for the same tenant (schedule-put.lua): else its runs would be begun beside those.
-- KEYS: the schedule, the queue's schedules by when each is due, what is kept: a hash { running, version, tenant }. ARGV: id, the tenants whose it may be as JSON or '' for all.
-- Returns 0 when there is none of theirs, else 1.
if not mayChange(KEYS[1], ARGV[2]) then return 0 end
local running, version = unpack(redis.call('HMGET', KEYS[1], 'running', 'version'))
if running and running ~= '[]' then
  redis.call('HSET', KEYS[3], 'running', running, 'version', version or '0', 'tenant', tenantOf(KEYS[1]) or '')
  -- As long as a job may be parked.
  redis.call('PEXPIRE', KEYS[3], 32 * 24 * 3600 * 1000)
end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
