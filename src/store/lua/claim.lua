-- Claims job ids that stand for idempotency keys: all of them, or none when one belongs to another spec.
-- KEYS: claims. ARGV: time to live in ms, then a digest of the spec for each key.
-- Returns {the position (from 1) of the first conflict, or 0; the positions of those that nobody had claimed before, …}.
for i, key in ipairs(KEYS) do
  local known = redis.call('GET', key)
  if known and known ~= ARGV[i + 1] then return { i } end
end
local answer = { 0 }
for i, key in ipairs(KEYS) do
  if redis.call('SET', key, ARGV[i + 1], 'NX', 'PX', ARGV[1]) then answer[#answer + 1] = i end
end
return answer
