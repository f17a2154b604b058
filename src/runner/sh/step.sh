
# A step has a folder of its own, $state/steps/KEY:
#   run.PID   the command's text
#   pid       a symbolic link to "PID:START" of the step's supervisor. Making it is the claim: whoever comes second, loses
#   leader    the pid of the command, which leads a session of its own
#   out, err  what it has printed so far; out.pipe and err.pipe carry it there
#   running   renamed to exited.CODE at the end. A rename is atomic and needs no space on a full disk

# start OUT_OFFSET ERR_OFFSET WAIT_MS MAX_BYTES KEY CWD RUN NAME...: starts the step, unless it was before, and reads as "read"
# does. RUN is base64, or "-" when it was put to $state/KEY.run; each NAME comes in as SWITCHYARD_ENV_NAME, so that no name
# can disturb this script.
start() {
  key=$5
  [ -L "$state/steps/$key/pid" ] || (
    shift 4
    start_step "$@"
  )
  [ -L "$state/steps/$key/pid" ] || exit
  read_ "$key" "$1" "$2" "$3" "$4"
}

# go_by NAME...: from now on filters are found, and the user's configuration is read, as the agent's own git does it with these variables.
go_by() {
  case " $* " in *' PATH '*) printf '%s' "$SWITCHYARD_ENV_PATH" >"$state/step.path" ;; *) gone "$state/step.path" ;; esac
  case " $* " in *' HOME '*) printf '%s' "$SWITCHYARD_ENV_HOME" >"$state/step.home" ;; *) gone "$state/step.home" ;; esac
  case " $* " in *' XDG_CONFIG_HOME '*) printf '%s' "$SWITCHYARD_ENV_XDG_CONFIG_HOME" >"$state/step.xdg" ;; *) gone "$state/step.xdg" ;; esac
  case " $* " in *' GIT_CONFIG_GLOBAL '*) printf '%s' "$SWITCHYARD_ENV_GIT_CONFIG_GLOBAL" >"$state/step.global" ;; *) gone "$state/step.global" ;; esac
}

start_step() {
  key=$1 cwd=$2 run=$3
  shift 3
  step=$state/steps/$key
  [ -d "$repository/$cwd" ] || fail no-folder "$cwd"
  mkdir -p "$step" || fail disk "$(mkdir -p "$step" 2>&1)"
  if [ "$run" = - ]; then
    cat "$state/$key.run" >"$step/run.$$" || fail disk ''
  else
    decode >"$step/run.$$" <<END || fail disk ''
$run
END
  fi
  go_by "$@"
  # A disk without room for this has none for the step's files either.
  dd if=/dev/zero of="$step/room.$$" bs=16384 count=1 2>/dev/null || {
    rm -f "$step/room.$$" "$step/run.$$"
    fail disk ''
  }
  rm -f "$step/room.$$"
  # In a pipeline and not with "&", which would make the step ignore SIGINT and SIGQUIT for good. The pipeline ends when
  # the supervisor, in its own session by then, has named the shell that waits for it.
  sh "$self" - launch "$step" "$cwd" "run.$$" "$@" </dev/null | { read -r waiting && kill -9 "$waiting"; }
  tries=0
  until [ -L "$step/pid" ]; do
    # A look costs nothing, a nap a process.
    [ "$tries" -lt 1000 ] || nap 5
    tries=$((tries + 1))
    [ "$tries" -lt 1600 ] || fail not-started ''
  done
}

launch() {
  detach sh "$self" - supervise "$$" "$@"
  exit 0
}

supervise() {
  waiting=$1 step=$2
  shift 2
  trap : HUP INT QUIT TERM
  cd "$step" || exit 1
  # Everything exists before the claim, so a reader never sees half a step.
  : >>out
  : >>err
  mkfifo out.pipe err.pipe 2>/dev/null
  printf '%s\n' "$waiting"
  exec >/dev/null
  # A caller that is broken off may take everything that descends from it along. Nothing is claimed before this process does not:
  # a claim whose supervisor was killed is a step that was killed.
  tries=0
  while born "$waiting"; do
    [ "$tries" -lt 1000 ] || nap 5
    tries=$((tries + 1))
    [ "$tries" -lt 1600 ] || exit 1
  done
  born $$
  ln -s "$$:$start" pid 2>/dev/null || exit 0
  : >running
  collect out &
  collect err &
  # Not as fd 2: this shell would print "Killed" into the command's output.
  detach sh "$self" - command "$step" "$@" >out.pipe 3>err.pipe
  # Not in "code": "look", which drain uses, keeps what it finds there.
  ended=$?
  drain
  tries=0
  until mv running "exited.$ended" || [ "$tries" -ge 30 ]; do
    [ -e running ] || : >running
    rm -f run.*
    sleep 1
    tries=$((tries + 1))
  done
}

# Pipes and not files, because `echo >/dev/stderr` would empty a file. When the disk is full the rest is thrown away,
# so that the command does not die of a broken pipe.
# shellcheck disable=SC2094 # the pipe's name may go while it is open
collect() {
  {
    cat >>"$1"
    cat >/dev/null
    rm -f "$1.pipe"
  } <"$1.pipe"
}

# Waits for the last output. A daemon that holds the pipes open never lets them end: then for the time that they take to be
# quiet, half a second, and for 5 s at most.
drain() {
  waited=0 quiet=0 pause=3 before=
  while [ -e out.pipe ] || [ -e err.pipe ]; do
    nap "$pause"
    waited=$((waited + napped)) quiet=$((quiet + napped))
    [ "$pause" -ge 50 ] || pause=$((pause * 2))
    if [ "$pause" -ge 48 ]; then
      look
      [ "$before" = "$out_size:$err_size" ] || quiet=0
      before=$out_size:$err_size
    fi
    [ "$quiet" -lt 500 ] && [ "$waited" -lt 5000 ] || break
  done
}

# Becomes the command. Its secrets are in the environment of this process and its children only.
command_() {
  step=$1 cwd=$2 run=$3
  shift 3
  printf '%s\n' "$$" >"$step/leader"
  exec 2>&3 3>&-
  shell=$(command -v bash || command -v sh)
  cd "$repository/$cwd" || exit 127
  # From here on by positional parameters alone: a variable of the step's may have any name.
  set -- "$@" "$shell" "$step/$run"
  while [ "$#" -gt 2 ]; do
    case $1 in
      # Shells keep these to themselves, or let no one set them.
      UID | EUID | PPID | BASHPID | SHELLOPTS | BASHOPTS | BASH_VERSINFO | GROUPS | OPTIND | LINENO | FUNCNAME | DIRSTACK | _) ;;
      *) eval "export $1=\"\$SWITCHYARD_ENV_$1\"" ;;
    esac
    unset "SWITCHYARD_ENV_$1"
    shift
  done
  # The mark that "stop" looks for. The slash ends the key: "a" is not "a.1".
  export SWITCHYARD_STEP="${2%/*}/"
  exec "$1" "$2"
}

# Looks at the step in the current folder: out_size, err_size, code (empty while it runs), supervisor (empty before the claim).
look() {
  out_size=0 err_size=0 code='' supervisor=''
  # shellcheck disable=SC2046 # the words of the listing
  set -- $(LC_ALL=C ls -ln 2>/dev/null)
  while [ $# -gt 0 ]; do
    case $1 in
      total) shift 2 ;;
      l*)
        [ "$9" != pid ] || supervisor=${11}
        shift 11
        ;;
      # GNU's word for a file that was renamed or removed between the listing and the look at it.
      ?\?*) shift 7 ;;
      *)
        case $9 in
          out) out_size=$5 ;;
          err) err_size=$5 ;;
          exited.*) code=${9#exited.} ;;
        esac
        shift 9
        ;;
    esac
  done
}

# read KEY OUT_OFFSET ERR_OFFSET WAIT_MS MAX_BYTES
read_() {
  step=$state/steps/$1 out_offset=$2 err_offset=$3 wait_ms=$4 max_bytes=$5
  unset BLOCK_SIZE BLOCKSIZE LS_BLOCK_SIZE TIME_STYLE
  set -f
  cd "$step" 2>/dev/null || fail no-step ''
  waited=0 pause=10
  while :; do
    look
    if [ -z "$code" ] && [ -n "$supervisor" ] && ! alive "$supervisor"; then
      look
      if [ -z "$code" ]; then
        set +f
        kill_all KILL
        set -f
        # It may have been killed right after its claim, before it made the file.
        mv running exited.137 2>/dev/null || : >exited.137
        look
        # On a full disk.
        code=${code:-137}
      fi
    fi
    # Once it has ended, the sizes from before that are not the last ones.
    if [ -n "$code" ]; then
      ended=$code
      look
      code=${code:-$ended}
    fi
    [ -z "$code" ] && [ "$out_size" -le "$out_offset" ] && [ "$err_size" -le "$err_offset" ] && [ "$waited" -lt "$wait_ms" ] || break
    nap "$pause"
    waited=$((waited + napped + 3))
    [ "$pause" -ge 250 ] || pause=$((pause + pause / 2))
  done
  # What ends right after it has printed something is told whole, in this answer and not in two.
  if [ -z "$code" ] && [ $((waited + 30)) -le "$wait_ms" ]; then
    nap 30
    look
    [ -z "$code" ] || look
  fi
  out_length=$((out_size > out_offset ? out_size - out_offset : 0))
  err_length=$((err_size > err_offset ? err_size - err_offset : 0))
  half=$((max_bytes / 2))
  if [ $((out_length + err_length)) -gt "$max_bytes" ]; then
    if [ "$err_length" -le "$half" ]; then
      out_length=$((max_bytes - err_length))
    elif [ "$out_length" -le "$half" ]; then
      err_length=$((max_bytes - out_length))
    else
      out_length=$half err_length=$((max_bytes - half))
    fi
  fi
  begin
  field code "${code:--}"
  field out-size "$out_size"
  field err-size "$err_size"
  slice out "$out_offset" "$out_length"
  slice err "$err_offset" "$err_length"
  finish
}

# slice FILE OFFSET LENGTH: whole blocks, because dd can seek by those only; the client cuts both ends.
slice() {
  field "$1-length" "$3"
  [ "$3" -gt 0 ] || return 0
  first=$(($2 / 4096))
  field "$1-skip" $(($2 - first * 4096))
  dd if="$1" bs=4096 skip="$first" count=$((($2 + $3 + 4095) / 4096 - first)) 2>/dev/null | blob "$1"
}

# Sends a signal to all that the step in the current folder has started and that can be found: what bears its mark, what is in
# the command's session or group, and their children. Fails when there was none. Never its supervisor, which writes the exit code.
kill_all() {
  first_line leader || line=
  leader=$line
  if [ -r /proc/self/stat ]; then
    found=" $(marked)"
    grown=
    while [ "$grown" != "$found" ]; do
      grown=$found
      for stat in /proc/[0-9]*/stat; do
        stat_line=
        { read -r stat_line <"$stat"; } 2>/dev/null || continue
        pid=${stat_line%% *}
        case $found in *" $pid "*) continue ;; esac
        # shellcheck disable=SC2086 # state, parent, group, session
        set -- "$1" ${stat_line##*) }
        case $2 in Z | X) continue ;; esac
        case $found in *" $3 "*) found="$found$pid " ;; *)
          if [ -n "$leader" ] && { [ "$4" = "$leader" ] || [ "$5" = "$leader" ]; }; then found="$found$pid "; fi
          ;;
        esac
      done
    done
    hit=1
    for pid in $found; do
      [ "$pid" = "${supervisor%%:*}" ] || [ "$pid" = $$ ] || ! kill -"$1" "$pid" || hit=0
    done
    return $hit
  fi
  [ -n "$leader" ] && kill -"$1" -"$leader"
}

# The live processes whose environment names this step, each followed by a space; also those that left the session.
marked() {
  # A pattern, because busybox stops at the first NUL when it looks for a fixed string.
  pattern=$(printf '%s' "SWITCHYARD_STEP=$step/" | sed 's/[][\.*^$]/\\&/g')
  # shellcheck disable=SC2013 # no white space in these names
  for environ in $(grep -ls -e "$pattern" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${environ#/proc/}
    ! born "${pid%/environ}" || printf '%s ' "${pid%/environ}"
  done
}

# stop KEY GRACE_MS
stop() {
  step=$state/steps/$1
  cd "$step" 2>/dev/null || {
    begin
    finish
  }
  look
  waited=0 signal=TERM
  while kill_all "$signal"; do
    # TERM once; then look, until the time is up.
    if [ "$waited" -ge "$2" ]; then signal=KILL; else signal=0; fi
    nap 50
    waited=$((waited + napped))
    [ "$waited" -lt $(($2 + 15000)) ] || fail not-stopped ''
  done
  # Its supervisor writes the exit code by itself.
  waited=0
  while look && [ -z "$code" ] && [ -n "$supervisor" ] && alive "$supervisor" && [ "$waited" -lt 8000 ]; do
    nap 20
    waited=$((waited + napped))
  done
  begin
  finish
}
