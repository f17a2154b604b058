-- include concurrency
-- A consumer that has acquired a job asks whether it holds its key of concurrency; it gets it where it came around the choice.
-- ARGV: inbox prefix, inbox ttl, job id, key, limit. Returns {'held', ''}; {'superseded', why}; or {'full', ''}: it is in nobody's hands, and is to be listed again.
local jobId, key, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local member = ownQueue .. ':' .. jobId
local standing = call('HGET', R .. ':keyed', member)
if standing and string.sub(standing, 1, 1) == '!' then return { 'superseded', string.sub(standing, 2) } end
-- Its spec was changed since it was chosen (BullMQ's `updateData`): the key that it had then is others'.
if standing and string.match(standing, '^%x+') ~= key then keyed.release(ownQueue, jobId) end
if call('ZSCORE', keyed.holders(key), member) then return { 'held', '' } end
if keyed.room(key, limit) <= 0 then keyed.prune(key) end
if keyed.room(key, limit) <= 0 then
  ready.keepBegun(ownQueue, jobId)
  ready.settle(ids.run(ownQueue, jobId))
  return { 'full', '' }
end
keyed.enter(ownQueue, jobId, key)
return { 'held', '' }
