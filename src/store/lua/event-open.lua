-- include event-group
-- Makes the group unless it is there. ARGV: group, where it begins: `$`, or the id of the entry behind which it does.
-- Returns 1 when it was made.
local from = ARGV[2]
local made = redis.pcall('XGROUP', 'CREATE', STREAM, group, from, 'MKSTREAM')
if type(made) == 'table' and made.err then
  if not string.find(made.err, 'BUSYGROUP') then return made end
  if redis.call('HEXISTS', G, 'last') == 1 then return 0 end
end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', STREAM)) do
  local info = fieldsOf(flat)
  if info.name == group then
    local last = info['last-delivered-id']
    redis.call('HSET', G, 'last', last)
    local following = redis.call('XRANGE', STREAM, '(' .. last, '+', 'COUNT', 1)[1]
    local number = following and tonumber(fieldsOf(following[2]).n)
    if number then
      redis.call('HSET', G, 'read', number - 1)
    else
      local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]
      redis.call('HSET', G, 'read', newest and fieldsOf(newest[2]).n or 0)
    end
  end
end
return 1
