
# The agent's git: its own configuration, attributes, filters and ignore rules, on a work tree of its. No token is in the environment
# of a call that uses it, nor in that of any process above it: filters are the agent's programs.
#   at        the work tree; own its git folder, common that of all its worktrees
#   index     the index that is worked on: a copy, never the agent's
#   work      a folder for this work tree's saves
#   borrow    whether new objects go to the private folder, where the agent's "gc" can't take them; the agent's own are read there too
#   usable    empty when there is no git folder that git takes: then the private one stands in for it
#   limit     seconds that one call may take

soh=$(printf '\001')

# What may run a program, or changes what is written and says nothing about content. Quoted as git's own variable for it wants it, which
# filters and the git that "add" starts in submodules inherit.
plain_settings="'core.hooksPath=/dev/null' 'core.fsmonitor=false' 'core.untrackedCache=false' 'core.splitIndex=false' 'core.safecrlf=false' 'core.ignoreStat=false'"
plain_settings="$plain_settings 'core.quotePath=true' 'gc.auto=0' 'maintenance.auto=false' 'submodule.recurse=false' 'diff.ignoreSubmodules=dirty'"
plain_settings="$plain_settings 'advice.addEmbeddedRepo=false' 'advice.updateSparsePath=false' 'core.pager=cat' 'status.showUntrackedFiles=all'"
settings=$plain_settings

# bounded COMMAND...: becomes it, for at most $limit seconds, and all that it started with it.
bounded() {
  [ -z "$has_timeout" ] || exec timeout -k 1 "$limit" "$@"
  # Without a "timeout" that makes a group of its own: a session, and somebody who watches it.
  exec 3<&0
  detach "$@" <&3 &
  running=$!
  (
    exec >/dev/null 2>&1 3<&-
    sleep "$limit"
    kill -KILL -"$running" || kill -KILL "$running"
  ) &
  watching=$!
  wait "$running"
  code=$?
  kill "$watching" 2>/dev/null
  exit "$code"
}

agent_environment() {
  cd "$at" || exit 128
  unset GIT_CONFIG_NOSYSTEM GIT_CONFIG_SYSTEM GIT_CONFIG_GLOBAL GIT_ATTR_NOSYSTEM XDG_CONFIG_HOME GIT_INDEX_FILE
  PATH=$agent_path
  HOME=$agent_home
  [ -z "$agent_xdg" ] || export XDG_CONFIG_HOME="$agent_xdg"
  [ -z "$agent_global" ] || export GIT_CONFIG_GLOBAL="$agent_global"
  # What a repository says that came here from a system which takes two spellings of a name for one.
  [ -e "$at/.GIT" ] || settings="$settings 'core.ignoreCase=false'"
  export GIT_DIR="$own" GIT_WORK_TREE="$at" GIT_CONFIG_PARAMETERS="$settings" GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1 GIT_EDITOR=:
  export GIT_ALLOW_PROTOCOL=none GIT_NO_LAZY_FETCH=1 GIT_TRACE2=0 GIT_TRACE2_EVENT=0 GIT_TRACE2_PERF=0
}

# agent_ ARGUMENT...
agent_() {
  (
    agent_environment
    export GIT_INDEX_FILE="$index"
    [ -z "$borrow" ] || export GIT_OBJECT_DIRECTORY="$private/objects" GIT_ALTERNATE_OBJECT_DIRECTORIES="$alternates"
    bounded "$git_program" "$@"
  )
}

# within_ ARGUMENT...: the git of the repository at $path.
within_() {
  (
    own=$at/$path/.git at=$at/$path settings=$plain_settings
    agent_environment
    bounded "$git_program" "$@"
  )
}

# In the private folder, with the agent's objects in sight.
lent() { GIT_ALTERNATE_OBJECT_DIRECTORIES=$alternates git_ "$@"; }

# setting KEY VALUE, added to $settings.
setting() {
  case $1$2 in *"'"*) set -- "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" "$(printf '%s' "$2" | sed "s/'/'\\\\''/g")" ;; esac
  settings="$settings '$1=$2'"
}

# open_agent WORK_TREE FOLDER
open_agent() {
  at=$1 work=$2 own=$1/.git index=$2/index usable='' alternates='' borrow='' settings=$plain_settings
  [ -d "$work" ] || mkdir -p "$work" || fail disk ''
  for file in "$work"/*.lock; do gone "$file"; done
  : >"$work/notes" && : >"$work/unsaved" || fail disk ''
  answer=$(agent_ rev-parse --absolute-git-dir --git-common-dir --show-object-format 2>"$work/error" || agent_ rev-parse --absolute-git-dir --git-common-dir 2>"$work/error") &&
    [ -n "$answer" ] && usable=1
  if [ -n "$usable" ]; then
    case $answer in
      # A name with a line break is in it.
      *"$newline"*"$newline"*"$newline"*)
        common=$(agent_ rev-parse --git-common-dir)
        own=$(agent_ rev-parse --absolute-git-dir)
        ;;
      *)
        own=${answer%%"$newline"*} common=${answer#*"$newline"}
        common=${common%%"$newline"*}
        ;;
    esac
    case $common in /*) ;; *) common=$at/$common ;; esac
    # A ".git" that is a link has two names.
    [ "$own" = "$common" ] || [ "$(cd "$own" && pwd -P)" != "$(cd "$common" && pwd -P)" ] || common=$own
    case $answer in *sha256) usable='' ;; esac
    [ -d "$common/objects" ] || usable=''
  fi
  borrow=1
  if [ -n "$usable" ]; then
    alternates=$common/objects
    # As git's list of folders quotes.
    case $alternates in *:* | '"'*) alternates=\"$(printf '%s' "$alternates" | sed 's/[\\"]/\\&/g')\" ;; esac
    return 0
  fi
  stand_in "git takes $(shown "$at")/.git for no repository of this job ($(said))"
}

# stand_in WHY: the private folder, in place of a git folder that is of no use.
stand_in() {
  own=$private common=$private alternates='' usable=''
  note "$1, so the agent's own git rules and history are not read; its history stays as it was last seen"
}

# The last line that git printed.
said() { grep -v '^hint' "$work/error" 2>/dev/null | tail -n 1 | cut -c 1-200; }

# shown PATH: as it stands below the home.
shown() {
  case $1 in "$HOME"/*) printf '~%s' "${1#"$HOME"}" ;; *) printf '%s' "$1" ;; esac
}

# note SENTENCE: for the job's log.
note() {
  ! says_no_room "$1" || rm -f "$state/room"
  printf '%s\n' "$1" | tr '\n' ' ' >>"$work/notes" && echo >>"$work/notes"
}

# unsaved PATH REASON: the path as git quotes it.
unsaved() { printf '%s\t%s\n' "$1" "$2" >>"$work/unsaved" || rm -f "$state/room"; }

# unquote PATH: sets `path` to what git quotes so, whose last byte may be a newline.
unquote() {
  case $1 in
    '"'*)
      # Git quotes the byte 1, so here it can stand for a backslash that is meant.
      path=$(printf '%b.' "$(printf '%s' "$1" | sed 's/^"//; s/"$//; s/\\\\/'"$soh"'/g; s/\\"/"/g; s/\\\([0-7][0-7][0-7]\)/\\0\1/g; s/'"$soh"'/\\\\/g')")
      path=${path%.}
      ;;
    *) path=$1 ;;
  esac
}

# with_newlines PATH: sets `path` to what stands in a line of ours, with the byte 1 for each newline.
with_newlines() {
  path=$1
  case $1 in *"$soh"*)
    path=$(printf '%s.' "$1" | tr '\001' '\n')
    path=${path%.}
    ;;
  esac
}

# quote PATH: sets `quoted` to it as git quotes it.
quote() {
  case $1 in
    *[!\ -~]* | *'"'* | *[\\]*)
      quoted=\"$(printf '%s' "$1" | od -An -v -tu1 | awk '
        BEGIN { count = split("7 a 8 b 9 t 10 n 11 v 12 f 13 r 34 \" 92 \\", pairs, " "); for (i = 1; i < count; i += 2) letter[pairs[i]] = pairs[i + 1] }
        { for (i = 1; i <= NF; i++) printf "%s", (($i in letter) ? "\\" letter[$i] : ($i + 0 < 32 || $i + 0 > 126) ? sprintf("\\%03o", $i) : sprintf("%c", $i + 0)) }')\"
      ;;
    *) quoted=$1 ;;
  esac
}

# below FOLDER: the paths on stdin, as they are below that folder. All are as git quotes them.
below() {
  folder=${1#'"'}
  folder=$(printf '%s' "${folder%'"'}" | sed 's/[\\,&]/\\&/g')
  case $1 in
    '"'*) sed -e 's,^"\(.*\)"$,\1,' -e "s,.*,\"$folder/&\"," ;;
    *) sed -e "s,^\",&$folder/," -e t -e "s,^,$folder/," ;;
  esac
}

