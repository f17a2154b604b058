# Runs in a sandbox's outer user namespace and goes on to the inner one, with the rest of the arguments as the command.
# $1: how many processes there may be. The descriptors from 3 on are the namespaces that led here: not for the command.
# The root file system is read-only, so nothing that runs here is the sandbox's own.
# shellcheck disable=SC3045 # dash and busybox call it -p, others -u
ulimit -u "$1" 2>/dev/null || ulimit -p "$1"
shift
read -r children </proc/1/task/1/children
for child in $children; do
  # Any child of the first process in another user namespace than its own will do; the anchor is the first.
  # shellcheck disable=SC3013 # dash, bash and busybox have -ef
  if ! [ "/proc/$child/ns/user" -ef /proc/1/ns/user ]; then
    exec nsenter --target "$child" --user --preserve-credentials -- "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&-
  fi
done
echo 'the sandbox has no process to enter by' >&2
exit 125
