
# Git, as it was never touched by the repository's content or by the commands that ran here. A git folder outside of the work
# tree, $state/git, holds what was fetched and is used for every commit and transfer: a rewritten .git/config, added hooks
# or a deleted .git concern the agent's own git only. Beside it:
#   index    the index of the checkout that a sandbox began with
#   base     the commit where the job started; head the agent's last HEAD that descends from it
#            and was carried; held the last one that the host has; head.made "SHA HEAD" of the last checkpoint with it
#   attempt  "PARENT SHA PLAIN TREE STATE" of the last checkpoint that was made
#   trivial  the state of a clone in which nothing happened yet
#   restore  "SHA HEAD BRANCH" of a checkpoint whose state is still to be brought back; restored once it was
#   save     what the staging of work trees needs; see stage.sh
#   room     is there while a save or a restore has found the disk to have room; see take_room

private=$state/git
no_sha=0000000000000000000000000000000000000000
tab=$(printf '\t')

git_environment() {
  # Git takes the current folder for the work tree when it is told of none.
  cd "$state" || fail no-state "$state"
  # Where the user's configuration lies: as the last step had it, or the image has it.
  agent_home=$HOME agent_xdg=${XDG_CONFIG_HOME-} agent_global=${GIT_CONFIG_GLOBAL-}
  [ ! -s "$state/step.home" ] || agent_home=$(cat "$state/step.home")
  [ ! -s "$state/step.xdg" ] || agent_xdg=$(cat "$state/step.xdg")
  [ ! -s "$state/step.global" ] || agent_global=$(cat "$state/step.global")
  case $agent_global in /*) ;; *) agent_global='' ;; esac
  case $agent_home in /*) ;; *) agent_home=$HOME ;; esac
  user_file=${agent_global:-$agent_home/.gitconfig} user_folder=${agent_xdg:-$agent_home/.config}/git
  # Nobody's GIT_ variables but those that say whom TLS trusts.
  case $(set) in *GIT_*)
    for name in $(env | sed -n 's/^\(GIT_[A-Za-z0-9_]*\)=.*/\1/p'); do
      case $name in GIT_SSL_* | GIT_PROXY_SSL_*) ;; *) unset "$name" ;; esac
    done
    ;;
  esac
  unset SSH_ASKPASS
  token=${SWITCHYARD_TOKEN-}
  unset SWITCHYARD_TOKEN
  # No program from the home folder, where commands may have left a "git" of their own. The agent's filters are found as it finds them.
  agent_path=$PATH
  [ ! -s "$state/step.path" ] || agent_path=$(cat "$state/step.path")
  path=
  old_ifs=$IFS IFS=:
  for folder in $PATH /usr/local/bin /usr/bin /bin; do
    case $folder in "$HOME" | "$HOME"/* | "${repository%/*}" | "${repository%/*}"/*) ;; /*) path=$path:$folder ;; esac
  done
  IFS=$old_ifs
  PATH=${path#:}
  git_program=$(command -v git)
  # So that writing past a limit on a file's size is an error of the program's, with words, and not its death.
  trap '' XFSZ
  # A "timeout" that knows no grace is none. Whether it does is seen once for each place where it lies.
  has_timeout=$(command -v timeout)
  [ -z "$has_timeout" ] || { first_line "$state/timeout" && [ "$line" = "$has_timeout" ]; } ||
    if timeout -k 1 5 true; then put timeout "$has_timeout"; else has_timeout=; fi
  export PATH LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_SYSTEM=/dev/null GIT_CONFIG_GLOBAL=/dev/null
  export GIT_ATTR_NOSYSTEM=1 XDG_CONFIG_HOME=/dev/null GIT_DIR="$private" GIT_INDEX_FILE="$state/index"
}

# Every call of git goes through here. HOME is no folder: no ~/.gitconfig of an old git, no ~/.netrc.
git_() { HOME=/dev/null git "$@"; }

# A full disk is told by few: what a program would say of it needs room as well, and what it removes as it fails makes some. So a save, a clone
# and a restore begin with a file of some blocks. Whoever finds that there is no room removes it, also in a shell within a shell, and what was
# made without it counts for nothing.
take_room() { printf '%65536s' x >"$state/room" || out_of_room; }

# kept_room: before the answer, whether there was room all the time.
kept_room() {
  try_room
  rm -f "$state/room" "$state/more" "${own:-$state}/switchyard.room"
}

out_of_room() {
  rm -f "$state/room" "$state/more"
  fail disk ''
}

# if_no_room: after something could not be written, ends the call where that is for want of room.
if_no_room() {
  try_room
  rm -f "$state/more" "${own:-$state}/switchyard.room"
}

try_room() {
  [ -f "$state/room" ] && printf '%16384s' x >"$state/more" || out_of_room
  [ -d "$own" ] && [ "$own" != "$private" ] || return 0
  # It may lie on another disk.
  gone "$own/switchyard.room"
  ! printf '%16384s' x >"$own/switchyard.room" || return 0
  more=$(dd if=/dev/zero of="$own/switchyard.room" bs=16384 count=1 2>&1) || ! says_no_room "$more" || {
    rm -f "$own/switchyard.room"
    out_of_room
  }
}

# failed_within TEXT: passes on what a shell within this one has failed with.
failed_within() {
  [ -f "$state/room" ] || fail disk ''
  case $1 in *"@switchyard $nonce begin"*) ;; *) return 0 ;; esac
  answered=1
  printf '@switchyard %s begin%s\n' "$nonce" "${1##*"@switchyard $nonce begin"}"
  exit 0
}

# says_no_room TEXT
says_no_room() {
  case $1 in *'No space left'* | *'quota exceeded'* | *'File too large'* | *'nable to write file '*) ;; *) return 1 ;; esac
}

# full_disk CODE: after git has failed with that code, ends the call where that was for want of room. It says so, unless there is no room for that either.
full_disk() {
  if [ -s "$work/error" ]; then
    ! says_no_room "$(tail -c 4000 "$work/error")" || out_of_room
  else
    # Those were killed, or had no time left.
    case $1 in 0 | 124 | 129 | 1[3-9]?) ;; *) out_of_room ;; esac
  fi
}

# not_saved CODE: git has failed with that code, and without what it was to do nothing can be saved.
not_saved() {
  full_disk "$1"
  if_no_room
  [ "$1" -le 128 ] || fail killed "$1"
  fail work "$(said)"
}

# Git with the work tree, in it.
git_in_tree() { (cd "$repository" && GIT_WORK_TREE=$repository git_ "$@"); }

# The private folder's configuration is written anew each time, and what could redirect it is removed.
git_config() {
  [ -f "$private/config" ] && [ ! -L "$private/config" ] && [ -w "$private/config" ] || gone "$private/config"
  for file in config.worktree commondir hooks info objects/info/alternates objects/info/http-alternates; do gone "$private/$file"; done
  excludes=$repository/.git/info/exclude
  [ -f "$excludes" ] || excludes=/dev/null
  printf '%s\n' "[core]
  repositoryformatversion = 0
  filemode = true
  bare = false
  hooksPath = /dev/null
  fsmonitor = false
  attributesFile = /dev/null
  excludesFile = \"$excludes\"
  askPass =
[credential]
  helper =
[fetch]
  recurseSubmodules = false
[transfer]
  unpackLimit = 1
[gc]
  auto = 0
[maintenance]
  auto = false
[http]
  postBuffer = 16777216
[protocol]
  version = 2
  allow = never
[protocol \"https\"]
  allow = always
[protocol \"http\"]
  allow = always
[push]
  recurseSubmodules = no
  gpgSign = false" >"$private/config" || fail disk ''
}

# One call of git that talks to the host at $url. The token is in the environment of this call only; the helper hands it to this
# host and no other. Not in the work tree, so that nothing of it is read while the token is near. Without a token it is added outside
# of the sandbox.
git_remote() {
  [ -n "$token" ] || {
    git_ "$@"
    return
  }
  host=${url#*://}
  host=${url%%://*}://${host%%/*}
  # shellcheck disable=SC2016 # the helper's shell expands it
  helper='!f() { test "$1" = get && printf "username=%s\npassword=%s\n" "$SWITCHYARD_USERNAME" "$SWITCHYARD_TOKEN"; }; f'
  (export SWITCHYARD_TOKEN="$token" && git_ -c "credential.$host.helper=$helper" "$@")
}

# put NAME TEXT: what that file below $state says from now on, in as many bytes as before. Over what it said, which is not lost on a full disk.
put() { printf '%s\n' "$2" 1<>"$state/$1" || fail disk ''; }

# One git operation at a time, also when an earlier call is still at work that nobody waits for any more.
lock() {
  born $$
  waited=0 missing=0
  until ln -s "$$:$start" "$state/lock" 2>/dev/null; do
    owner=$(readlink "$state/lock") || {
      [ -w "$state" ] || {
        broken_disk
        fail no-state "$state"
      }
      # Not a lock but something of the agent's.
      [ ! -e "$state/lock" ] || [ -L "$state/lock" ] || rm -rf "$state/lock"
      # Nobody has it, and it can't be made: once may be a lock that was just given back.
      [ -L "$state/lock" ] || missing=$((missing + 1))
      [ "$missing" -lt 20 ] || fail disk ''
    }
    if [ -n "$owner" ] && ! alive "$owner"; then
      # Of all who see that it is dead, one may remove its lock; the others could hit the lock of whoever comes next.
      ! ln -s $$ "$state/lock.$owner" || [ "$(readlink "$state/lock")" != "$owner" ] || rm -f "$state/lock"
    fi
    born $$
    [ "$waited" -lt 20000 ] || fail busy ''
    nap 50
    waited=$((waited + napped))
  done
  answered=
  trap unlock EXIT
  trap 'exit 143' HUP INT TERM
  for file in "$private"/*.lock "$private"/objects/*.lock "$state"/*.lock "$state"/lock.*; do gone "$file"; done
}

# shellcheck disable=SC2317 # at the end of the shell
# unlock: the shell ends by itself where it can't open a file that it is to write to.
unlock() {
  ended=$?
  rm -f "$state/lock"
  case $answered:$ended in :1 | :2) fail disk '' ;; esac
}

# is_sha TEXT
is_sha() {
  case $1 in *[!0-9a-f]*) return 1 ;; esac
  [ ${#1} -eq 40 ]
}
