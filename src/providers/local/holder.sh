# Holds one sandbox on the host, in a session of its own, so that it outlives the consumer that made it:
# starts it, says "ready", ends it at its deadline or when its files are gone, and removes its files after its end.
# $1: the sandbox's folder; $2: bubblewrap or plain; $3: its id; then the bwrap command line.
# With bubblewrap the sandbox also ends when this process does (--die-with-parent). See local-provider.ts for the folder.
dir=$1 mode=$2 id=$3
shift 3

# "pid start-time": a pid alone may be another process tomorrow.
identity() {
  if [ -r "/proc/$1/stat" ]; then
    read -r stat <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # the fields behind "pid (command) ", split on purpose
    set -- "$1" ${stat##*) }
    # A zombie is dead, whoever should reap it.
    case $2 in [ZX]*) return 1 ;; esac
    echo "$1 ${21}"
  else
    # shellcheck disable=SC2046,SC2116 # blanks are collapsed on purpose
    echo "$1" $(LC_ALL=C ps -o lstart= -p "$1")
  fi
}

# Writes a file in one go.
record() {
  printf '%s\n' "$2" >"$dir/$1.new" && mv "$dir/$1.new" "$dir/$1"
}

# Ends this process and everything in its session's group; the folder is moved first, so that nobody takes it for alive.
finish() {
  printf '%s\n' "$cgroups" | while read -r cgroup; do
    [ -n "$cgroup" ] || continue
    # What led commands into the sandbox ends a moment after it.
    for _ in 1 2 3 4 5; do
      rmdir "$cgroup" && break
      sleep 0.2
    done
  done 2>/dev/null
  if mv "$dir" "${dir%/*}/.dead-$id" 2>/dev/null; then
    chmod -R u+rwx "${dir%/*}/.dead-$id" 2>/dev/null
    rm -rf "${dir%/*}/.dead-$id"
    [ -z "$ended" ] || /bin/sh -c "$ended" >/dev/null 2>&1
  fi
  kill -KILL 0
}

# Returns when the time is up. Looks every few seconds whether the folder is still there and the holder ($$) lives.
until_deadline() {
  while read -r deadline 2>/dev/null <"$dir/deadline"; do
    left=$((deadline - $(date +%s)))
    [ "$left" -gt 0 ] || return 0
    [ "$left" -le 5 ] || left=5
    sleep "$left"
    kill -0 "$$" 2>/dev/null || exit 0
  done
}

# Kills what runs in the sandbox when its files take more, or are more, than they may: once, and again when they have grown by a twentieth of that
# since, so that what is left of the job can still be saved. The file "disk" holds the most KiB and the most files.
watch_disk() {
  read -r most_kib most_files <"$dir/disk" || return
  kib=$most_kib files=$most_files
  while [ -e "$dir/deadline" ]; do
    begun=$(date +%s)
    # shellcheck disable=SC2046 # two numbers
    set -- $(find "$dir/home" "$dir/tmp" -xdev -printf '%b\n' 2>/dev/null | awk '{ blocks += $1 } END { printf "%d %d\n", blocks / 2, NR }')
    if [ "$1" -gt "$kib" ] || [ "$2" -gt "$files" ]; then
      kill -USR1 "$init"
      [ "$1" -le "$kib" ] || kib=$(($1 + most_kib / 20))
      [ "$2" -le "$files" ] || files=$(($2 + most_files / 20))
    else
      [ "$1" -gt "$most_kib" ] || kib=$most_kib
      [ "$2" -gt "$most_files" ] || files=$most_files
    fi
    # Counting takes at most a twentieth of the time, however many there are.
    pause=$((20 * ($(date +%s) - begun)))
    [ "$pause" -ge 3 ] || pause=3
    sleep "$pause"
    kill -0 "$$" 2>/dev/null || exit 0
  done
}

# Returns when the sandbox has a route to the outside and every one of the ports that it is to find at its loopback.
# $1: the process that makes them, without which there is nothing to wait for.
until_network() {
  while :; do
    missing=
    # The first line names the columns.
    [ "$(grep -c . "/proc/$init/net/route")" -gt 1 ] || [ "$(grep -cv ' lo$' "/proc/$init/net/if_inet6")" -gt 0 ] || missing=route
    while read -r port; do grep -q " 0100007F:$port " "/proc/$init/net/tcp" || missing=$port; done <"$dir/ports"
    [ -n "$missing" ] || return 0
    kill -0 "$1" 2>/dev/null || return 1
    sleep 0.02
  done
}

# Leaves the sandbox no way to the addresses in the file $1.
without_way_to() {
  # shellcheck disable=SC1091 # made with the sandbox
  (. "$dir/ip.sh") <"$dir/$1" >/dev/null
}

# Read now: the folder may be gone at the end.
cgroups=$(cat "$dir/cgroups") || exit 1
kill_marked=$(cat "$dir/kill-marked.sh") || exit 1
mark=$(cat "$dir/mark" 2>/dev/null)
ended=$(cat "$dir/ended.sh" 2>/dev/null)
record holder "$(identity $$)" || exit 1
case $mode in
bubblewrap)
  mkfifo "$dir/started" || exit 1
  (
    # "0" is the process that writes it.
    while read -r cgroup; do echo 0 >"$cgroup/cgroup.procs" || exit 1; done <"$dir/cgroups"
    exec "$@" >/dev/null 3>"$dir/info" 4>"$dir/started"
  ) &
  bwrap=$!
  read -r _ <"$dir/started" || finish
  init=$(sed -n 's/.*"child-pid": *\([0-9][0-9]*\).*/\1/p' "$dir/info")
  if [ -e "$dir/network.sh" ]; then
    # In this process's group, with which it dies.
    (
      exec >/dev/null
      # shellcheck disable=SC1091 # made with the sandbox
      . "$dir/network.sh"
    ) &
    until_network "$!" || finish
    if [ -e "$dir/ip.sh" ]; then
      without_way_to unreachable.4 || finish
      ! grep -qv ' lo$' "/proc/$init/net/if_inet6" || without_way_to unreachable.6 || finish
    fi
  fi
  record init "$(identity "$init")" || finish
  (
    exec >/dev/null 2>&1
    until_deadline
    kill -KILL "$bwrap"
  ) &
  (
    exec >/dev/null 2>&1
    watch_disk
  ) &
  echo ready
  exec >/dev/null 2>&1
  wait "$bwrap"
  # The sandbox dies with bwrap, from which the kernel takes the whole PID namespace along; see that it is so.
  while [ "$(identity "$init" 2>/dev/null)" = "$(cat "$dir/init" 2>/dev/null || echo moved)" ]; do sleep 0.05; done
  ;;
plain)
  record init "$(identity $$)" || exit 1
  echo ready
  exec >/dev/null 2>&1
  until_deadline
  /bin/sh -c "$kill_marked" kill-marked "$id" "$mark"
  ;;
esac
finish
