-- include run-ending
-- Ends a run that is in no consumer's hands, or stays in them for a moment. KEYS, ARGV and what it returns: as of `endRun`.
return endRun(1, 1)
