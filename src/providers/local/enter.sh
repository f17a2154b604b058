# Runs in a sandbox's outer user namespace and goes on to the inner one, with the rest of the arguments as the command.
# $1: how many processes there may be; $2: how many open files of each. The descriptors from 3 on led here: not for the command.
# The root file system is read-only, so nothing that runs here is the sandbox's own.
# shellcheck disable=SC3045 # dash and busybox call it -p, others -u
ulimit -u "$1" 2>/dev/null || ulimit -p "$1"
# Fails where there may be fewer already.
ulimit -n "$2" 2>/dev/null
ulimit -c 0
shift 2
exec nsenter --user=/proc/1/fd/5 --preserve-credentials -- "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-
