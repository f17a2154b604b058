-- include fitness
-- Consumers of this profile can't run some of the jobs: what is said of it holds until the job or its shape is gone.
-- ARGV: inbox prefix, inbox ttl, profile id, grace in ms, 'job' or 'shape', then for each: its id, why, for how many ms or ''.
-- Returns, of those that no live consumer may run for longer than the grace: id, reasons as a JSON list, …
local profile, grace, kind = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local given = {}
for i = 6, #ARGV, 3 do
  local subject, why, forMs = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  -- What waits no more is not entered again: nobody would take it away, and the next run of the job would have it.
  local there
  if kind == 'job' then
    local queued = redis.call('HMGET', bull(ownQueue, subject), 'timestamp', 'finishedOn')
    there = queued[1] and not queued[2]
  else
    there = redis.call('HEXISTS', keyOf(ownQueue, 'shape'), subject) == 1
  end
  if there then
    local sinceMs, refusals = (kind == 'job' and fitness.refuse or fitness.refuseShape)(subject, profile, why, forMs)
    if sinceMs and sinceMs >= grace then
      given[#given + 1] = subject
      given[#given + 1] = fitness.reasons(refusals)
    end
  end
end
return given
