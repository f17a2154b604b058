# Ends one container at its deadline, from outside of it: a process of this machine's, in a session of its own, so that it outlives the
# consumer that started it. Nothing that runs in the container reaches it.
# $1: seconds until the first look; then the command that looks (keep-deadline.mjs), to which the latest known deadline is added. It prints after
# how many seconds to look again, and that deadline; nothing when the container is gone.
left=$1 known=0 failed=0
shift
while [ "$failed" -lt 120 ]; do
  sleep "$left"
  if said=$("$@" "$known"); then
    failed=0
    [ -n "$said" ] || exit 0
    left=${said% *} known=${said#* }
  else
    # An engine that is away for an hour has taken its containers along.
    failed=$((failed + 1)) left=30
  fi
done
