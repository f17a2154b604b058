-- Notes what an operator changed, in the very step that changes it. KEYS[4] is the stream, `entry` JSON of src/store/audit-log.ts; `before` and `after`: JSON or ''.
local function audit(entry, before, after)
  local noted = cjson.decode(entry)
  noted.before = before ~= '' and cjson.decode(before) or cjson.null
  noted.after = after ~= '' and cjson.decode(after) or cjson.null
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'entry', cjson.encode(noted))
end
