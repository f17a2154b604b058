-- The log of a run that is not a job's any more goes, with the lists of what may be dropped of it (run-save.lua): the next run's would begin with them.
local function dropLog(log, account)
  for _, field in ipairs(redis.call('HKEYS', account)) do
    local channel = string.match(field, '^tail:(.*)$')
    if channel then redis.call('DEL', account .. ':' .. channel) end
  end
  redis.call('DEL', log, account)
end
