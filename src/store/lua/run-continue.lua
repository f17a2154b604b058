-- Asks for a job's next run to go on from the last checkpoint of the one that has ended, and keeps the checkpoint and the record that long.
-- KEYS: run, branches to delete, BullMQ's hash of the job. ARGV: generation of the run that has ended, the checkpoint's branch or '', when that is deleted at the earliest (ms since
--       1970), 1 when its deletion need not be planned, for how many ms the record is kept; 1 where BullMQ still has to hold the job as ended: who runs it again at the same time
--       says where from. Without a generation the next run is to begin from the start.
-- Returns 'changed' (another run is the last one by now), 'gone' (the branch was deleted) or 'requested'.
local run, branches = KEYS[1], KEYS[2]
if ARGV[6] == '1' and redis.call('HEXISTS', KEYS[3], 'finishedOn') == 0 then return 'changed' end
if ARGV[1] == '' then
  redis.call('HDEL', run, 'continue')
  return 'requested'
end
local state = redis.call('HMGET', run, 'generation', 'result')
if state[1] ~= ARGV[1] or not state[2] then return 'changed' end
if ARGV[2] ~= '' then
  local due = redis.call('ZSCORE', branches, ARGV[2])
  if not due and ARGV[4] ~= '1' then return 'gone' end
  if due and tonumber(due) < tonumber(ARGV[3]) then redis.call('ZADD', branches, 'XX', ARGV[3], ARGV[2]) end
end
if redis.call('PTTL', run) < tonumber(ARGV[5]) then redis.call('PEXPIRE', run, ARGV[5]) end
-- Not for another job that may come under its id.
redis.call('HSET', run, 'continue', ARGV[1], 'of', redis.call('HGET', KEYS[3], 'timestamp') or '0')
return 'requested'
