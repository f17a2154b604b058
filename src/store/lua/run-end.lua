-- include ready-leave
-- include run-ending
-- Ends a run, and with it the job leaves the consumers' hands (leaveHands): its place goes to the next one, all in one step.
-- KEYS[4] on: as of `endRun`. ARGV: inbox prefix, inbox ttl, the caller and its view when it would take the next job, or '' and ''; from ARGV[5] on as of
-- `endRun`. Returns {'lost'} or {'stale'}, or {'finished' or 'repeated', the next job, which stands in BullMQ's wait list for the caller, or '', the provider at which that
-- has its place or ''}.
local how = endRun(4, 5, true)
if how == 'lost' or how == 'stale' then return { how } end
local following = leaveHands(ids.job(ownQueue, ARGV[15]), ARGV[3] ~= '' and { holder = ARGV[3], view = ARGV[4] } or nil, true)
return { how, following and following.jobId or '', following and following.provider or '' }
