-- Parts of lists and sets as they are at one instant: from each how much it holds, and what was found. KEYS: the lists and sets. ARGV: how many of a set at most;
-- then for each key 'set', the highest score, how many of these to pass by; or 'list', the first and the last.
local answer = {}
for i, key in ipairs(KEYS) do
  local kind, a, b = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if kind == 'set' then
    answer[i] = { redis.call('ZCARD', key), redis.call('ZRANGE', key, a, '-inf', 'BYSCORE', 'REV', 'LIMIT', b, ARGV[1], 'WITHSCORES') }
  else
    answer[i] = { redis.call('LLEN', key), redis.call('LRANGE', key, a, b) }
  end
end
return answer
