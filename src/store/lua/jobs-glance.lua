-- What a list shows of jobs, whatever these hold: nothing of it is longer than a line or two.
-- KEYS: of each job BullMQ's hash, its run, its log. ARGV: how many bytes of the end of its output are wanted.
-- Returns of each { name, progress, enqueued, ended, failed reason, result's summary, holder, reason, end of the output }; '' for what there is none of.
local answers, longest = {}, 2000

local function short(value)
  value = value or ''
  return #value > longest and string.sub(value, 1, longest) or value
end

for i = 1, #KEYS, 3 do
  local job = redis.call('HMGET', KEYS[i], 'name', 'progress', 'timestamp', 'finishedOn', 'failedReason', 'returnvalue')
  local run = redis.call('HMGET', KEYS[i + 1], 'holder', 'reason')
  local output = ''
  if tonumber(ARGV[1]) > 0 then
    local piece = redis.call('XREVRANGE', KEYS[i + 2], '+', '-', 'COUNT', 1)[1]
    for at = 1, piece and #piece[2] or 0, 2 do
      if piece[2][at] == 'd' then output = string.sub(piece[2][at + 1], -tonumber(ARGV[1])) end
    end
  end
  local answer = {}
  for at = 1, 6 do answer[at] = short(job[at]) end
  answer[7], answer[8], answer[9] = short(run[1]), short(run[2]), output
  answers[#answers + 1] = answer
end
return answers
