-- include concurrency
-- Resumes a queue whose time to be paused is over, in the step that finds so: what is said anew meanwhile holds. As BullMQ's own script
-- does it (pause-7.lua), but for jobs that releases before it had moved when they paused the queue: this one leaves them where they are.
-- ARGV: inbox prefix, inbox ttl. Returns the word that was lifted, as JSON; nil when there is none that is over.
local note = R .. ':q:' .. ownQueue .. ':pause'
local json = call('GET', note)
local untilMs = json and cjson.decode(json).untilMs
if type(untilMs) ~= 'number' or untilMs > redisNow then return nil end
call('DEL', note)
if call('HDEL', bull(ownQueue, 'meta'), 'paused') == 0 then return nil end
call('ZADD', bull(ownQueue, 'marker'), 0, '0')
call('XADD', bull(ownQueue, 'events'), '*', 'event', 'resumed')
return json
