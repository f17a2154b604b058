-- include event-group
-- Gives dead letters back, each behind what there is of its subject, with all its attempts before it. ARGV: group, their ids.
-- Returns how many there were.
local count = 0
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', DEAD, ARGV[i], ARGV[i])[1]
  if entry then
    local letter = fieldsOf(entry[2])
    removeDead(entry)
    -- A replay may have brought it back meanwhile.
    if not stateOf(letter.id) then
      redis.call('HSET', BODY, letter.id, letter.log .. ' ' .. letter.event)
      enter(letter.id, letter.subject, 0)
    end
    count = count + 1
  end
end
return count
