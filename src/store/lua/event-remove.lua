-- Removes a group that nobody reads any more, with all that it was not done with and its dead letters.
-- KEYS: as of event-group.lua, whose clock every reader moves on with each look, one of an earlier release too. ARGV: group, for how many ms nobody may have
-- read, the clock as it was seen before.
-- Returns 1 when it is gone, 0 when somebody has read since.
local clock = redis.call('HGET', KEYS[2], 'clock')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not clock or clock ~= ARGV[3] or now - tonumber(string.match(clock, '^%d+')) < tonumber(ARGV[2]) then return 0 end
redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
