-- include concurrency
-- include audit
-- Pauses a queue, in one step with noting who did, and for how long: one that nobody is noted for is never resumed. As BullMQ's own script does it
-- (pause-7.lua). Or notes that BullMQ has resumed it.
-- ARGV: inbox prefix, inbox ttl, who pauses it, as JSON, or '' where it is resumed; how it was before, as JSON or ''; the entry of the audit log. KEYS[4]: the audit log.
local note, word = R .. ':q:' .. ownQueue .. ':pause', ARGV[3]
if word == '' then
  -- Unless somebody has paused it anew since.
  if call('HEXISTS', bull(ownQueue, 'meta'), 'paused') == 0 then call('DEL', note) end
  audit(ARGV[5], ARGV[4], '')
  return
end
audit(ARGV[5], ARGV[4], word)
call('HSET', bull(ownQueue, 'meta'), 'paused', 1)
call('DEL', bull(ownQueue, 'marker'))
call('SET', note, word)
call('XADD', bull(ownQueue, 'events'), '*', 'event', 'paused')
