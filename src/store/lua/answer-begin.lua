-- Begins the one request that an idempotency key of the HTTP API stands for, or says what came of it.
-- KEYS: the request's hash. ARGV: its print, a token of whoever answers it, for how many ms it may take, for how many ms it is remembered.
-- Returns {'new'}, {'other'} for another request's key, {'busy', for how many ms}, or {'known', the answer}.
-- A hash: print, token, untilMs; answer once there is one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local print, untilMs, answer = unpack(redis.call('HMGET', KEYS[1], 'print', 'untilMs', 'answer'))
if print and print ~= ARGV[1] then return { 'other' } end
if answer then return { 'known', answer } end
-- Redis' clock may have been set back: nobody has longer than one can ask for.
local left = untilMs and math.min(tonumber(untilMs) - now, tonumber(ARGV[3])) or 0
if left > 0 then return { 'busy', left } end
redis.call('HSET', KEYS[1], 'print', ARGV[1], 'token', ARGV[2], 'untilMs', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 'new' }
