# Ends what of a container keeps its engine waiting. Runs on the engine's machine, or in a short container that sees that machine's processes.
# $1: "starts": commands that the engine has begun to start in a container of ours, and that were stopped before they were programs;
# "all": whatever runs in the container. $2: the container's id; with "starts" it may be empty, for any container of ours.
# Exits with 3 where such processes are not in sight, with 4 where they may not be signalled.
# By the shell alone: a busy machine takes long to start a program for each of its processes. They may end while they are looked at.
what=$1 id=$2 end=3

# Whether a file of a process has a line with a text in it.
holds() {
  while read -r line; do
    case $line in *"$2"*) return 0 ;; esac
  done 2>/dev/null <"$1"
  return 1
}

# Monitors of containers have the id in their cgroup too, and must live to tell of the end.
in_container() {
  ! holds "/proc/$1/cgroup" "conmon-$2" && holds "/proc/$1/cgroup" "$2"
}

# Whether a process is in a container of ours: one with a first process of ours, which is in the same cgroup.
is_ours() {
  read -r cgroup 2>/dev/null <"/proc/$1/cgroup" || return 1
  for other in /proc/[0-9]*; do
    read -r same 2>/dev/null <"$other/cgroup" || continue
    [ "$same" != "$cgroup" ] || ! holds "$other/cmdline" .switchyard-deadline || return 0
  done
  return 1
}

end_process() {
  if kill -KILL "$1" 2>/dev/null; then
    end=0
  elif [ -e "/proc/$1/stat" ]; then
    end=4
  fi
}

look() {
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    if [ "$what" = all ]; then
      ! in_container "$pid" "$id" || end_process "$pid"
      continue
    fi
    # Stopped, by a signal or by a tracer, while it is still the runtime's own program.
    read -r stat 2>/dev/null <"$process/stat" || continue
    case $stat in "$pid (crun"*') '[Tt]' '* | "$pid (runc"*') '[Tt]' '* | "$pid (youki"*') '[Tt]' '*) ;; *) continue ;; esac
    if [ -n "$id" ]; then in_container "$pid" "$id" || continue; else is_ours "$pid" || continue; fi
    end_process "$pid"
  done
}

# For some seconds: what waits behind a command that is ended here is begun next, and may be stopped alike.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  look
  [ "$end" = 0 ] || break
  sleep 1
done
exit "$end"
