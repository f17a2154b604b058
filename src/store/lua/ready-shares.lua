-- include ready
-- Replaces what is configured of the tenants' shares. ARGV: inbox prefix, inbox ttl, JSON { tenant: { weight, cap } }.
redis.call('DEL', R .. ':shares')
for name, share in pairs(cjson.decode(ARGV[3])) do redis.call('HSET', R .. ':shares', name, cjson.encode(share)) end
return 1
