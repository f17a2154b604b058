-- include event-group
-- Says that entries are still being handled. ARGV: group, lease in ms, then for each entry: its id, and which attempt it is.
for i = 3, #ARGV, 2 do
  if stateOf(ARGV[i]) == tonumber(ARGV[i + 1]) then redis.call('ZADD', DUE, text(now + tonumber(ARGV[2])), ARGV[i]) end
end
return 1
