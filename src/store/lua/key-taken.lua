-- include concurrency
-- A job that is to be dropped where others are there before it is to be run again. ARGV: inbox prefix, inbox ttl, its key, limit. Returns one of those jobs, or ''.
return keyed.before(ARGV[3], tonumber(ARGV[4])) or ''
