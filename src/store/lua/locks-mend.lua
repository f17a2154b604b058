-- After Redis' clock was set back, what was to expire soon lives for as long as the clock was ahead. BullMQ looks for stalled jobs only when
-- no other process has done so just now, and a job whose lock lives is not stalled: both would stand still for hours.
-- KEYS: BullMQ's mark of the last look for stalled jobs, its list of active jobs. ARGV: the longest that the mark lives, the longest that
-- a lock lives, both in ms, what a job's key begins with, how many jobs are looked at. Returns how many locks were mended. The mark's life is another
-- consumer's configuration where that is far longer, and it does no harm that it is shorter.
local mended = 0
local function shorten(key, atMostMs)
  if redis.call('PTTL', key) <= atMostMs then return 0 end
  redis.call('PEXPIRE', key, atMostMs)
  return 1
end

shorten(KEYS[1], tonumber(ARGV[1]))
local count, most = redis.call('LLEN', KEYS[2]), tonumber(ARGV[4])
-- Of many, some at a time, by chance.
local from = most * (tonumber(redis.call('TIME')[2]) % math.max(1, math.ceil(count / most)))
for _, jobId in ipairs(redis.call('LRANGE', KEYS[2], from, from + most - 1)) do mended = mended + shorten(ARGV[3] .. jobId .. ':lock', tonumber(ARGV[2])) end
return mended
