-- include concurrency
-- include tidying
-- Takes a bounded part of what is over apart. ARGV: inbox prefix, inbox ttl. Returns 1 if there is more.
tidying.some()
return call('EXISTS', R .. ':garbage')
