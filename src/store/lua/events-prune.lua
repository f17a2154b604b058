-- Removes readers that hold no pending entry: one by name at once, others after they were silent for long. Deleting one
-- that holds entries would lose them, so the look and the deletion are one step.
-- KEYS: stream. ARGV: group, reader ('' for none), silence in ms.
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local reader = {}
  for i = 1, #info, 2 do reader[info[i]] = info[i + 1] end
  if reader.pending == 0 and (reader.name == ARGV[2] or reader.idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], reader.name)
  end
end
return 1
