# The first process in a sandbox's PID namespace, which nothing inside can signal. It lives in the outer of two user namespaces, as its
# uid 0 but without capabilities (except one, for writing the inner one's maps); everything else lives in the inner one as
# uid 1000. It keeps one idle process there, the anchor, which commands enter by; reaps orphans; and, with a memory
# limit, kills the biggest process when all together are over it.
# $1: memory limit in KiB, 0 for none; $2: how many processes there may be; $3: the page size in KiB. Descriptor 4 takes one line when it is up.
memory_kib=$1 processes=$2 page_kib=$3
exec </dev/null >/dev/null 2>&1

start_anchor() {
  (
    # shellcheck disable=SC3045 # dash and busybox call it -p, others -u
    ulimit -u "$processes" || ulimit -p "$processes"
    exec unshare --user --map-user=1000 --map-group=1000 -- /bin/sh -c '{ echo up >&4; exec 4>&-; } 2>/dev/null; exec sleep 2147483647'
  ) &
  anchor=$!
}

limit_memory() {
  total=0 biggest=0 victim=
  for statm in /proc/[0-9]*/statm; do
    { read -r _ resident _ <"$statm"; } 2>/dev/null || continue
    total=$((total + resident))
    pid=${statm#/proc/}
    pid=${pid%/statm}
    if [ "$resident" -gt "$biggest" ] && [ "$pid" != 1 ]; then
      biggest=$resident
      victim=$pid
    fi
  done
  if [ $((total * page_kib)) -gt "$memory_kib" ]; then kill -KILL "$victim"; fi
}

start_anchor
exec 4>&-
while :; do
  if [ "$memory_kib" = 0 ]; then
    wait "$anchor"
  else
    sleep 0.5 &
    wait "$!"
    limit_memory
  fi
  kill -0 "$anchor" || start_anchor
done
