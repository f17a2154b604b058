# Kills every process of a sandbox without namespaces, again until there is none: they may fork meanwhile.
# $1: its id, which their environments name; $2: its mark, a limit of no effect that they inherit, also with an empty environment.
# Exits 1 when some are left after 100 passes.
marker="SWITCHYARD_SANDBOX=$1" mark=$2

# Of processes that live; a zombie has its limits still.
alive() {
  while read -r pid; do
    read -r stat <"/proc/$pid/stat" || continue
    # The state comes after the name in parentheses.
    case ${stat##*) } in [ZX]*) ;; *) echo "$pid" ;; esac
  done 2>/dev/null
}

pass=0
while [ "$pass" -lt 100 ]; do
  pass=$((pass + 1))
  if [ -r /proc/self/environ ]; then
    pids=$(
      {
        grep -lsaF "$marker" /proc/[0-9]*/environ
        [ -z "$mark" ] || grep -lsE "^Max file locks +$mark " /proc/[0-9]*/limits
      } | sed 's|^/proc/||; s|/[a-z]*$||' | sort -u | alive
    )
  else
    # The bracket keeps awk's own arguments from matching.
    pids=$(ps -axEww -o pid=,command= | awk -v id="$1" 'index($0, "SWITCHYARD_SANDBOX" "=" id) { print $1 }')
  fi
  [ -n "$pids" ] || exit 0
  # shellcheck disable=SC2086 # a list of numbers
  kill -KILL $pids 2>/dev/null
  [ "$pass" -lt 5 ] || sleep 0.05
done
exit 1
