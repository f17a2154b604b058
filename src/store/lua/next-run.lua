-- Whether a job's last run is still the one that counts; as src/store/next-run.ts has it.
local nextRun = {}

function nextRun.facts(run, job)
  local last = redis.call('HMGET', run, 'generation', 'result', 'stalls', 'atMs', 'toldAtMs', 'again', 'of')
  local queued = redis.call('HMGET', job, 'timestamp', 'finishedOn', 'atm', 'processedOn', 'stc')
  local facts = { known = tonumber(last[1] or '0'), ended = last[2] ~= false, stalls = last[3] or '0', again = last[6] and last[6] == last[1] }
  facts.open = queued[1] ~= false and not queued[2]
  -- It was removed from the queue, and another one added under its id.
  facts.other = last[7] and last[7] ~= queued[1]
  facts.attempts, facts.taken, facts.stalled = tonumber(queued[3] or '0'), queued[4], queued[5] or '0'
  -- Somebody else has taken it than who knows that the run has ended. Earlier releases did not write who that is, and then times of two clocks tell.
  facts.told = last[5]
  facts.takenSince = facts.taken and (facts.told and tonumber(facts.taken) ~= tonumber(facts.told) or not facts.told and tonumber(facts.taken) > tonumber(last[4] or '0'))
  return facts
end

function nextRun.following(facts)
  if not facts.open then return nil end
  if facts.attempts + 1 > facts.known then return facts.attempts + 1 end
  if not facts.ended then return nil end
  if facts.again or facts.other or (facts.stalls ~= '-' and tonumber(facts.stalled) <= tonumber(facts.stalls) and (not facts.taken or facts.takenSince)) then return facts.known + 1 end
  return nil
end

-- `run`, `job`: keys of the run and of BullMQ's hash. Returns the generation of the run that is next, where BullMQ was told to run the job again, else nil; whether there is
-- a run that has ended; whether BullMQ has the job, and has not ended it; the generation of the last run, 0 when there is none.
function nextRun.generation(run, job)
  local facts = nextRun.facts(run, job)
  return nextRun.following(facts), facts.ended, facts.open, facts.known
end

-- As asked by whoever has taken the job when it had stalled so often; nil too for one that has lost it. `tells`: should the last run be the one that counts, the caller tells
-- BullMQ of its end. Should it die before, or give the job back, whoever comes next finds the same.
function nextRun.taken(run, job, stalled, tells)
  local facts = nextRun.facts(run, job)
  if not facts.open or facts.stalled ~= stalled then return nil end
  local waits = nextRun.following(facts)
  if not facts.ended then return waits end
  if waits then
    redis.call('HSET', run, 'again', string.format('%.0f', facts.known))
  elseif tells then
    redis.call('HSET', run, 'stalls', stalled, 'toldAtMs', facts.taken or '0')
  else
    redis.call('HSET', run, 'stalls', '-')
  end
  return waits
end

-- The job waits, in nobody's hands, and its last run has ended: either BullMQ was told to run it again, or whoever had it died before it told BullMQ of the end. That is
-- kept, because it can't be told any more once others have taken it, and have died.
function nextRun.note(run, job)
  local facts = nextRun.facts(run, job)
  if not facts.open or not facts.ended or facts.again or facts.stalls == '-' then return end
  -- Who has taken it since, and died, is one that has stalled; who died before it told BullMQ is one more.
  local again = not facts.taken or facts.told and facts.takenSince and tonumber(facts.stalled) <= tonumber(facts.stalls) + 1
  if again then
    redis.call('HSET', run, 'again', string.format('%.0f', facts.known))
  elseif facts.told then
    redis.call('HSET', run, 'stalls', '-')
  end
end

-- BullMQ was told to run a job again whose last run is to stay the one that counts: whoever takes it tells BullMQ of its end once more. Returns whether there is one.
function nextRun.stay(run, job)
  local facts = nextRun.facts(run, job)
  if not facts.open or not facts.ended or facts.other then return false end
  redis.call('HDEL', run, 'again')
  redis.call('HSET', run, 'stalls', '-')
  -- BullMQ counts the attempt when it ends, for the second time.
  if facts.attempts + 1 > facts.known then redis.call('HSET', job, 'atm', string.format('%.0f', facts.known - 1)) end
  return true
end

-- The job waits, in nobody's hands, and its last run has ended without BullMQ's knowing: the next one is asked for. Returns whether it was.
function nextRun.again(run, job)
  local facts = nextRun.facts(run, job)
  if not facts.open or not facts.ended or facts.stalls ~= '-' or facts.again or facts.attempts + 1 > facts.known then return false end
  redis.call('HSET', run, 'again', string.format('%.0f', facts.known))
  return true
end
