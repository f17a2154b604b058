-- include ready
-- Jobs that BullMQ holds as waiting but that are not listed: put there around Switchyard, or by a producer that died in the middle.
-- KEYS[4]: BullMQ's prioritized set. ARGV: inbox prefix, inbox ttl, from, how many to look at. Returns for each: id, 1 if it holds a place.
local missing = {}
for _, jobId in ipairs(redis.call('ZRANGE', KEYS[4], ARGV[3], ARGV[3] + ARGV[4] - 1)) do
  if redis.call('HEXISTS', R .. ':of', jobId) == 0 then
    missing[#missing + 1] = jobId
    missing[#missing + 1] = redis.call('HEXISTS', L .. ':jobs', jobId)
  end
end
return missing
