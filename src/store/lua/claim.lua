-- Claims job ids that stand for idempotency keys: all of them, or none when one belongs to another spec. A claim for which there is neither a job nor a run, though it was made
-- long before, was left by a producer that died before it added the job, or the job was removed: it keeps nobody from the key.
-- KEYS: BullMQ's completed and failed jobs; for each id its claim, BullMQ's hash of the job and its run. ARGV: time to live in ms, then a digest of the spec for each key.
-- Returns {the position (from 1) of the first conflict, or 0; the positions of those that nobody had claimed before, …}.
local abandonedMs, abandoned = 600000, {}
for i = 2, #ARGV do
  local claim, job, run = KEYS[3 * i - 3], KEYS[3 * i - 2], KEYS[3 * i - 1]
  local known = redis.call('GET', claim)
  if known and known ~= ARGV[i] then
    local left = redis.call('EXISTS', job, run) == 0 and redis.call('PTTL', claim) or -1
    if left < 0 or ARGV[1] - left < abandonedMs then return { i - 1 } end
    abandoned[i] = true
  end
end
local answer = { 0 }
for i = 2, #ARGV do
  local claim, job, run = KEYS[3 * i - 3], KEYS[3 * i - 2], KEYS[3 * i - 1]
  if abandoned[i] then redis.call('SET', claim, ARGV[i], 'PX', ARGV[1]) end
  if abandoned[i] or redis.call('SET', claim, ARGV[i], 'NX', 'PX', ARGV[1]) then
    answer[#answer + 1] = i - 1
    -- One that is past its retention BullMQ holds until others end, and would take the new one for it.
    if redis.call('HEXISTS', job, 'finishedOn') == 1 and redis.call('EXISTS', run) == 0 then
      local jobId = string.match(job, '[^:]*$')
      for _, ended in ipairs({ KEYS[1], KEYS[2] }) do redis.call('ZREM', ended, jobId) end
      for _, part in ipairs({ '', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful' }) do redis.call('DEL', job .. part) end
    end
  end
end
return answer
