-- include event-group
-- Says how an attempt went. ARGV: group, entry, which attempt it was, 'done', 'later' (it was none: nothing was tried yet) or why it failed after a '!', ms until the next attempt, how often
-- an entry is taken at most, how many dead letters are kept, how many bytes of them, the receiver that wants no more or ''.
-- Returns 'stale' (it was taken by another since, or this was said before), 'done', 'again' or 'dead', and 1 when the next of its subject is due.
local id, outcome = ARGV[2], ARGV[4]
local taken, subject = stateOf(id)
if taken ~= tonumber(ARGV[3]) then return { 'stale', 0 } end
if outcome == 'done' then return { 'done', leave(id, subject) } end
if outcome == 'later' then
  redis.call('HSET', STATE, id, text(taken - 1) .. ' ' .. subject)
  redis.call('ZADD', DUE, text(now + tonumber(ARGV[5])), id)
  return { 'again', 0 }
end
if (ARGV[9] or '') ~= '' then redis.call('HSET', G, 'stopped', cjson.encode({ receiver = ARGV[9], atMs = redisNow, why = string.sub(outcome, 2) })) end
if taken >= tonumber(ARGV[6]) then
  local freed = bury(id, subject, taken, string.sub(outcome, 2), tonumber(ARGV[7]), tonumber(ARGV[8]))
  tellLost()
  return { 'dead', freed }
end
redis.call('ZADD', DUE, text(now + tonumber(ARGV[5])), id)
return { 'again', 0 }
