-- include costs
-- include audit
-- include next-run
-- Sets a budget for all consumers, or takes it back to what is configured; what waits for it is woken.
-- ARGV: C, field ('t:<tenant>' or 'j:<job id among all queues>'), micros or '' to take it back, who, how many fields there may be, '<queue>:<job id>' of a job's or '', the entry of the audit log.
-- KEYS[4]: the audit log; and for a job's the run and BullMQ's hash of the job.
-- Returns {'full'}, {'ended'} for a job with nothing more to spend, or {'changed' or 'same', what it was before or ''}.
local base, field, micros = ARGV[1], ARGV[2], ARGV[3]
local caps = base .. ':caps'
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local json = redis.call('HGET', caps, field)
-- By when it was added a job is told from another one that had its id, and was removed: what was said of that one is not this one's.
local of = KEYS[6] and redis.call('HGET', KEYS[6], 'timestamp') or nil
local said = json and cjson.decode(json)
if said and of and said.of and said.of ~= of then
  redis.call('HDEL', caps, field)
  json, said = false, nil
end
local before = said and string.format('%.0f', said.micros) or ''
-- The end of its run took away what was said of it.
if micros ~= '' and KEYS[5] then
  local waits, ended = nextRun.generation(KEYS[5], KEYS[6])
  if ended and not waits then return { 'ended' } end
end
if before == micros then return { 'same', before } end
if micros ~= '' and not json and redis.call('HLEN', caps) >= tonumber(ARGV[5]) then return { 'full' } end
if micros == '' then redis.call('HDEL', caps, field) else redis.call('HSET', caps, field, cjson.encode({ micros = tonumber(micros), by = ARGV[4], atMs = nowMs, of = of })) end
if string.sub(field, 1, 2) == 't:' then
  costs.changed(base, string.sub(field, 3), nowMs)
else
  redis.call('HINCRBY', caps, 'version', 1)
  local q, jobId = string.match(ARGV[6], '^([^:]*):(.*)$')
  if q then redis.call('ZADD', (string.gsub(base, ':costs$', '')) .. q .. ':delayed', 'XX', string.format('%.0f', nowMs * 4096), jobId) end
end
audit(ARGV[7], before, micros)
return { 'changed', before }
