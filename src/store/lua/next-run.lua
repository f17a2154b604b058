-- Whether a job's last run is still the one that counts; as src/store/next-run.ts has it. Whoever has taken the job asks run-acquire.lua.
local nextRun = {}

-- `run`, `job`: keys of the run and of BullMQ's hash. Returns the generation of the run that is next, where BullMQ was told to run the job again, else nil; whether there is
-- a run that has ended; whether BullMQ has the job, and has not ended it; the generation of the last run, 0 when there is none.
function nextRun.generation(run, job)
  local last = redis.call('HMGET', run, 'generation', 'result', 'stalls', 'atMs', 'toldAtMs', 'again')
  local queued = redis.call('HMGET', job, 'timestamp', 'finishedOn', 'atm', 'processedOn', 'stc')
  local known, ended, open = tonumber(last[1] or '0'), last[2] ~= false, queued[1] ~= false and not queued[2]
  if not open then return nil, ended, open, known end
  local attempts, stalls = tonumber(queued[3] or '0'), last[3] or '0'
  if attempts + 1 > known then return attempts + 1, ended, open, known end
  if not ended then return nil, ended, open, known end
  local later = not queued[4] or tonumber(queued[4]) > math.max(tonumber(last[4] or '0'), tonumber(last[5] or '0'))
  if last[6] == last[1] or (stalls ~= '-' and tonumber(queued[5] or '0') <= tonumber(stalls) and later) then return known + 1, ended, open, known end
  return nil, ended, open, known
end

-- BullMQ was told to run the job again, and nobody has taken it since: that is kept, because it can't be told any more once somebody has, and has died.
function nextRun.note(run, job)
  local last = redis.call('HMGET', run, 'generation', 'result', 'stalls')
  if not last[2] or last[3] == '-' then return end
  local queued = redis.call('HMGET', job, 'timestamp', 'finishedOn', 'processedOn')
  if queued[1] and not queued[2] and not queued[3] then redis.call('HSET', run, 'again', last[1]) end
end
