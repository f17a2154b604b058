# Kills every process whose environment names the sandbox $1, again until there is none: they may fork meanwhile.
# Exits 1 when some are left after 100 passes. A zombie has no environment, so it does not count.
marker="SWITCHYARD_SANDBOX=$1"
pass=0
while [ "$pass" -lt 100 ]; do
  pass=$((pass + 1))
  if [ -r /proc/self/environ ]; then
    pids=$(grep -lsaF "$marker" /proc/[0-9]*/environ | sed 's|^/proc/||; s|/environ$||')
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
