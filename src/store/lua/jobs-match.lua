-- Which of some jobs may be what is looked for; whoever asks looks at those more closely.
-- KEYS: what the keys of BullMQ's hashes of jobs begin with, and those of runs. At most 200 jobs, and no more once what was read of them holds 8 MiB.
-- ARGV: state or '', tenant or '', repository or '', from which time of enqueuing on or '', kind or code of its error or '', how many further tenants, these; of each job
-- its id, and that of its run where it is another one, else ''.
-- Returns for each that was looked at: when it was enqueued in ms, '' for one that is not looked for.
local state, tenant, repository, since = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local tenants = { [tenant] = true }
local errorName = ARGV[5]
local before = 6 + tonumber(ARGV[6])
for i = 7, before do tenants[ARGV[i]] = true end
local ended = { succeeded = true, failed = true, cancelled = true }
local read, answer = 0, {}

-- As they stand in JSON without an escape.
local names = {}
for name in pairs(tenants) do names[#names + 1] = '"' .. name .. '"' end

local function mayName(data)
  if #names > 8 or string.find(data, '\\', 1, true) then return true end
  for _, name in ipairs(names) do
    if string.find(data, name, 1, true) then return true end
  end
  return false
end

local function matches(key, run, name, at)
  if not at or (repository ~= '' and name ~= repository) or (since and tonumber(at) < since) then return false end
  if (state == 'running' or state == 'parked') and (redis.call('HEXISTS', run, 'record') == 0 or redis.call('HEXISTS', run, 'result') == 1) then return false end
  if ended[state] then
    local result = redis.call('HGET', run, 'result')
    read = read + (result and #result or 0)
    if not result or not string.find(result, '"status":"' .. state .. '"', 1, true) then return false end
  end
  if errorName ~= '' then
    local result = redis.call('HGET', run, 'result') or ''
    read = read + #result
    if not string.find(result, ':"' .. errorName .. '"', 1, true) then return false end
  end
  if tenant == '' then return true end
  local data = redis.call('HGET', key, 'data') or ''
  read = read + #data
  -- Most are told without being taken apart: whose tenant's name is not there as it is, nor may be there with an escape.
  if not mayName(data) then return false end
  local good, value = pcall(cjson.decode, data)
  return good and type(value) == 'table' and type(value.spec) == 'table' and type(value.spec.tenant) == 'string' and tenants[value.spec.tenant] == true
end

for i = before + 1, #ARGV, 2 do
  if read > 8388608 then break end
  local key, run = KEYS[1] .. ARGV[i], KEYS[2] .. (ARGV[i + 1] ~= '' and ARGV[i + 1] or ARGV[i])
  local fields = redis.call('HMGET', key, 'name', 'timestamp')
  answer[#answer + 1] = matches(key, run, fields[1], fields[2]) and fields[2] or ''
end
return answer
