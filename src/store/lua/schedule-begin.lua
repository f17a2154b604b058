-- include next-run
-- Sees to one time of a schedule that has come: decides whether its run is begun. Whoever is answered 'run' adds the job and says so (schedule-settle.lua);
-- if that one dies before, whoever comes next does it: the job's id is the same.
-- A schedule is a hash: definition, times, version, handled (up to which time all is seen to), paused (since when), running (the jobs that had not ended, as
-- JSON), begun (the latest times that were begun), pending (a job that is to be added: its id, its time and the jobs that it replaces), last (the latest
-- job and its time), skipped (what was not begun last), then (when it is due once that job is there, where it was changed meanwhile).
-- KEYS: the schedule, the queue's schedules by when each is due.
-- ARGV: id, version, handled, what to do ('run', 'pass', 'reset', 'wait'), the time, when the next one is due, job id, overlap, how many may run at once, what
--       run records' keys begin with, and BullMQ's jobs', how many times are remembered, for 'pass': how many times, and why.
-- Returns {'changed'} (it is not what the caller read), {'pending', job}, {'run', job}, {'skipped', why} or {'done'}.
local schedule, due = KEYS[1], KEYS[2]
local id, what, slot, jobId, overlap, most = ARGV[1], ARGV[4], ARGV[5], ARGV[7], ARGV[8], tonumber(ARGV[9])
local state = redis.call('HMGET', schedule, 'version', 'handled', 'paused', 'pending', 'running', 'begun')
if state[1] ~= ARGV[2] or state[2] ~= ARGV[3] or state[3] then return { 'changed' } end
if state[4] then return { 'pending', state[4] } end
redis.call('ZADD', due, ARGV[6], id)
if what == 'wait' then return { 'done' } end
redis.call('HSET', schedule, 'handled', slot)
if what == 'reset' then return { 'done' } end

local function skip(count, why)
  redis.call('HSET', schedule, 'skipped', cjson.encode({ slotMs = tonumber(slot), count = count, why = why }))
end
if what == 'pass' then
  skip(tonumber(ARGV[13]), ARGV[14])
  return { 'skipped', ARGV[14] }
end
-- A clock that was set back comes to the same times again.
local begun = cjson.decode(state[6] or '[]')
for _, at in ipairs(begun) do
  if at == slot then return { 'done' } end
end

-- As RunStore.standings has it: a job that was retried has not ended.
local function hasEnded(other)
  local run, job = ARGV[10] .. other, ARGV[11] .. other
  local retried, ended, open = nextRun.generation(run, job)
  if not open then return ended or redis.call('EXISTS', run) == 0 or redis.call('EXISTS', job) == 1 end
  return ended and not retried
end
local running = {}
for _, other in ipairs(cjson.decode(state[5] or '[]')) do
  if not hasEnded(other) then running[#running + 1] = other end
end
local function write(list) return #list == 0 and '[]' or cjson.encode(list) end
if #running > 0 and overlap == 'skip' or #running >= most and overlap ~= 'replace' then
  local why = 'the run before, job ' .. running[#running] .. ', has not ended (overlap: ' .. overlap .. ')'
  redis.call('HSET', schedule, 'running', write(running))
  skip(1, why)
  return { 'skipped', why }
end
local replaces = overlap == 'replace' and write(running) or '[]'
running[#running + 1] = jobId
-- Until its job is there it stays due, for whoever comes next.
redis.call('ZADD', due, slot, id)
while #running > most do table.remove(running, 1) end
begun[#begun + 1] = slot
while #begun > tonumber(ARGV[12]) do table.remove(begun, 1) end
local pending = '{"jobId":' .. cjson.encode(jobId) .. ',"slotMs":' .. slot .. ',"replaces":' .. replaces .. '}'
redis.call('HDEL', schedule, 'then')
redis.call('HSET', schedule, 'running', write(running), 'begun', cjson.encode(begun), 'pending', pending,
  'last', '{"jobId":' .. cjson.encode(jobId) .. ',"slotMs":' .. slot .. '}')
return { 'run', pending }
