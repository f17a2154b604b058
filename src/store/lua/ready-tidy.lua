-- include concurrency
-- Takes a bounded part of what is over apart. ARGV: inbox prefix, inbox ttl. Returns 1 if there is more.
ready.tidy()
return call('EXISTS', R .. ':garbage')
