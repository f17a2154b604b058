-- include event-append
-- Tells that a job is in the queue. KEYS: BullMQ's hash of the job, run, events, account of the events.
-- ARGV: 1 when the job is about to run again, '' when it is about to be added, 'anew' when it is after its end: then nothing is told of one that is there
--       already, and of one that is about to run again only once, whoever asked for it; event id, kind, job id, numbers of the job's webhooks that it goes to, event.
-- Comes before the job's own commands, in one transaction with them where it is new.
if ARGV[1] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 or ARGV[1] == '' and redis.call('HEXISTS', KEYS[2], 'result') == 1 then return 0 end
if ARGV[1] == '1' then
  if redis.call('HGET', KEYS[2], 'enqueued') == ARGV[2] then return 0 end
  -- The end of that run takes it away.
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'enqueued', ARGV[2]) end
end
appendEvent(KEYS[3], KEYS[4], '', ARGV[2], ARGV[6], '', ARGV[3], ARGV[4], ARGV[5])
return 1
