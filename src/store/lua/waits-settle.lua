-- Jobs whose time to wait was over are seen to; one that begins to wait anew meanwhile is left.
-- KEYS: W (waits-add.lua). ARGV: job ids.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, jobId in ipairs(ARGV) do
  local due = redis.call('ZSCORE', KEYS[1], jobId)
  if due and tonumber(due) <= now then redis.call('ZREM', KEYS[1], jobId) end
end
return #ARGV
