-- Makes a consumer the one that reaps at a provider for a while, or renews that.
-- KEYS: the provider's reaping. ARGV: holder, smallest gap to the round before in ms, for how many ms, how long the key is kept in ms.
-- Returns {1, memory or false}, or {0} when somebody else reaps or the last round is too near.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'holder', 'untilMs', 'atMs', 'memory')
if state[1] ~= ARGV[1] then
  -- Redis' clock may have been set back: no claim holds for longer than one can ask for, and no round ended in the future.
  local leftMs, sinceMs = state[1] and tonumber(state[2]) - now or 0, state[3] and now - tonumber(state[3])
  if leftMs > 0 and leftMs <= 10 * tonumber(ARGV[3]) then return { 0 } end
  if sinceMs and sinceMs >= 0 and sinceMs < tonumber(ARGV[2]) then return { 0 } end
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'untilMs', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 1, state[4] }
