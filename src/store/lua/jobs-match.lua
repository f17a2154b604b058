-- Which of some jobs may be what is looked for; whoever asks looks at those more closely.
-- KEYS: BullMQ's hash of each job, the run of each. At most 200 jobs, and no more once what was read of them holds 8 MiB.
-- ARGV: state or '', tenant or '', repository or '', from which time of enqueuing on or '', kind or code of its error or '', further tenants.
-- Returns for each that was looked at: when it was enqueued in ms, '' for one that is not looked for.
local state, tenant, repository, since = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local tenants = { [tenant] = true }
local errorName = ARGV[5]
for i = 6, #ARGV do tenants[ARGV[i]] = true end
local ended = { succeeded = true, failed = true, cancelled = true }
local count, read, answer = #KEYS / 2, 0, {}

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
  -- Most are told without being taken apart.
  if not string.find(data, '"tenant"', 1, true) then return false end
  local good, value = pcall(cjson.decode, data)
  return good and type(value) == 'table' and type(value.spec) == 'table' and type(value.spec.tenant) == 'string' and tenants[value.spec.tenant] == true
end

for i = 1, count do
  if read > 8388608 then break end
  local fields = redis.call('HMGET', KEYS[i], 'name', 'timestamp')
  answer[i] = matches(KEYS[i], KEYS[count + i], fields[1], fields[2]) and fields[2] or ''
end
return answer
