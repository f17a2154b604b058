-- Gives claims back that were made for jobs which are not enqueued after all.
-- KEYS: a claim and BullMQ's hash of its job, for each. ARGV: a digest of the spec for each claim; another one's claim stays, and so does
-- one whose job was enqueued meanwhile.
for i = 1, #KEYS, 2 do
  if redis.call('GET', KEYS[i]) == ARGV[(i + 1) / 2] and redis.call('EXISTS', KEYS[i + 1]) == 0 then redis.call('DEL', KEYS[i]) end
end
return 0
