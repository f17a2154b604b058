# The first process in a sandbox's PID namespace, which nothing inside can signal. It lives in the outer of two user namespaces, as its
# uid 0 but without capabilities (except one, for writing the inner one's maps); everything else lives in the inner one as
# uid 1000. It holds that one open (descriptor 5), which is where commands enter; no process is in there that did not come by enter.ts,
# since one without its filter would be at the mercy of those with. It reaps orphans and, with a memory limit, kills the biggest process
# when all together are over it. The holder's USR1 has it kill all, when their files are over their bounds; a job that sends it harms itself alone.
# $1: memory limit in KiB, 0 for none; $2: the page size in KiB. Descriptor 4 takes one line when it is up.
memory_kib=$1 page_kib=$2
exec </dev/null >/dev/null 2>&1

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

# Nothing of the job runs yet, so what is made here is not its.
mkfifo /tmp/.switchyard-inner || exit 1
unshare --user --map-user=1000 --map-group=1000 -- /bin/sh -c 'echo up >/tmp/.switchyard-inner; exec sleep 60' 4>&- &
first=$!
read -r _ </tmp/.switchyard-inner || exit 1
exec 5<"/proc/$first/ns/user" || exit 1
kill -KILL "$first"
wait "$first"
rm /tmp/.switchyard-inner

trap 'kill -KILL -1' USR1
echo up >&4
exec 4>&-
while :; do
  if [ "$memory_kib" = 0 ]; then
    sleep 2147483647 5<&- &
  else
    sleep 0.5 5<&- &
  fi
  wait "$!"
  [ "$memory_kib" = 0 ] || limit_memory
done
