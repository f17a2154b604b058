#!/bin/sh
# What Switchyard runs in a sandbox. One POSIX sh script, put together from the files in this folder and installed once.
#
#   sh runner.sh NONCE VERB ARGUMENT...
#
# It answers on stdout, in ASCII, and never on stderr:
#   @switchyard NONCE begin
#   NAME VALUE            a field
#   NAME:                 a field of bytes: base64 lines up to a line with a single "."
#   @switchyard NONCE end
# Whatever stands around that (a login shell's greeting) is noise; an answer without its last line was cut.
# The first field is "ok" or "fail KEYWORD"; the keywords are in ../failures.ts. The exit code says nothing.
# Secrets come in by the environment only.
#
# shellcheck disable=SC2015 # "a && b || fail" is meant: whichever fails, it is a failure
# shellcheck disable=SC2030,SC2031 # a subshell is there so that what it changes stays in it
# shellcheck disable=SC2088 # a tilde in a name of the job's own

state=$HOME/.switchyard
newline='
'
# At the same absolute path wherever sandboxes have a file system of their own: agents know their conversations by it. Homes differ, so
# this is one home for all; see place_repository.
one_home=/home/user
repository=$HOME/repository
[ ! -f "$state/placed" ] || repository=$one_home/repository

begin() {
  answered=1
  printf '@switchyard %s begin\nok -\n' "$nonce"
}

finish() {
  printf '@switchyard %s end\n' "$nonce"
  exit 0
}

field() { printf '%s %s\n' "$1" "$2"; }

# blob NAME: the bytes on stdin.
blob() {
  printf '%s:\n' "$1"
  base64
  printf '.\n'
}

empty_blob() { printf '%s:\n.\n' "$1"; }

# fail KEYWORD TEXT
fail() {
  [ "$1" != disk ] || broken_disk
  answered=1
  printf '@switchyard %s begin\nfail %s\n' "$nonce" "$1"
  printf '%s' "$2" | tail -c 3000 | blob detail
  finish
}

# broken_disk: fails where nothing can be written whatever room there is: no command of the job's has used it up.
broken_disk() {
  disk=$(LC_ALL=C dd if=/dev/zero of="$state/more" bs=4096 count=1 2>&1)
  rm -f "$state/more"
  case $disk in *'Read-only file system'* | *'nput/output error'*) fail disk-broken "$disk" ;; esac
}

# Decodes base64 from stdin, also with the BSD spelling of the option.
decode() {
  if [ "$(base64 -d 2>/dev/null)" = a ]; then base64 -d <&3; else base64 -D <&3; fi 3<&0 <<END
YQ==
END
}

# decoded BASE64: sets `text` to what stands there between a first line and a last one, both a single ".".
decoded() {
  for option in -d -D; do
    text=$(
      base64 $option <<END
$1
END
    )
    case $text in ."$newline"*"$newline".)
      text=${text#."$newline"}
      text=${text%"$newline".}
      return 0
      ;;
    esac
  done
  fail disk ''
}

# nap MILLISECONDS (1 to 999): sets `napped` to what it took. A sleep that knows only whole seconds sleeps one.
nap() {
  case ${#1} in
    1) napped=0.00$1 ;;
    2) napped=0.0$1 ;;
    *) napped=0.$1 ;;
  esac
  if sleep "$napped" 2>/dev/null; then napped=$1; else
    sleep 1
    napped=1000
  fi
}

# born PID: sets `start` to the time the process was born, in ticks since boot, and fails when there is no such process
# or it is a zombie. Process ids are used again; the pair is not. Without /proc, `start` is 0.
born() {
  start=0
  kill -0 "$1" 2>/dev/null || return 1
  [ -r /proc/self/stat ] || return 0
  stat_line=
  { read -r stat_line </proc/"$1"/stat; } 2>/dev/null || return 1
  # shellcheck disable=SC2086 # the fields after the command's name, which may hold anything
  set -- ${stat_line##*) }
  [ "$1" != Z ] && [ "$1" != X ] || return 1
  shift 9
  shift 9
  start=$2
}

# alive PID:START, as `born` found them.
alive() { born "${1%%:*}" && [ "$start" = "${1#*:}" ]; }

# gone FILE: removes it, whatever it is. Most often there is none, and no process is needed.
gone() { [ ! -e "$1" ] && [ ! -L "$1" ] || rm -rf "$1"; }

# first_line FILE: sets `line`. The file may lack its newline, or be anything that the agent put there.
first_line() {
  line=
  [ -f "$1" ] || return 1
  read -r line <"$1" || [ -n "$line" ]
}

# Runs a command in a session and process group of its own.
detach() {
  if command -v setsid >/dev/null; then
    setsid "$@"
  elif command -v perl >/dev/null; then
    perl -e 'use POSIX; POSIX::setsid(); exec { $ARGV[0] } @ARGV' "$@"
  elif command -v python3 >/dev/null; then
    python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
  else
    "$@"
  fi
}

# Whether there is something for TLS to trust: said by the environment, or where systems keep it.
certificates() {
  [ -z "${GIT_SSL_CAINFO-}${GIT_SSL_CAPATH-}${SSL_CERT_FILE-}${SSL_CERT_DIR-}" ] || return 0
  for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem \
    /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /etc/ssl/certs/ca-bundle.crt /etc/ca-certificates/extracted/tls-ca-bundle.pem \
    /usr/local/share/certs/ca-root-nss.crt /etc/ssl/certs/*.pem /etc/ssl/certs/*.0; do
    [ ! -s "$file" ] || return 0
  done
  return 1
}

# place_repository: decides for good that the repository lies in $one_home, where that can be made and is nobody's, or has at least half of
# the room that the home has. Else it lies in the home.
place_repository() {
  if [ "${HOME%/}" = "$one_home" ] || [ -e "$state/placed" ] || [ -e "$state/cloned" ] || [ -n "${SWITCHYARD_REPOSITORY_IN_HOME-}" ]; then return; fi
  if [ ! -e "$one_home" ] && ! mkdir -p "$one_home"; then
    # shellcheck disable=SC2016 # the inner shell expands it
    sudo -n sh -c 'mkdir -p "$1" && chown "$2" "$1"' sh "$one_home" "$(id -u):$(id -g)" </dev/null || return
  fi
  [ "$(cd "$one_home" && pwd -P)" = "$one_home" ] && [ ! -e "$one_home/repository" ] && [ ! -L "$one_home/repository" ] || return
  df -P "$one_home" "$HOME" | awk 'NR > 1 { room[NR] = $4 } END { exit NR == 3 && room[2] * 2 < room[3] }' || return
  : >"$state/placed" || return
  if mkdir "$one_home/repository"; then repository=$one_home/repository; else rm -f "$state/placed"; fi
}

# probe PLACE: with "place" the repository may lie outside of the home.
probe() {
  [ "${1-}" != place ] || place_repository
  begin
  field home "$(printf '%s' "$HOME" | base64 | tr -d '\n')"
  field repository "$(printf '%s' "$repository" | base64 | tr -d '\n')"
  field user "$(id -un 2>/dev/null || id -u)"
  field git "$(git --version 2>/dev/null || echo missing)"
  certificates || field certificates missing
  for tool in ls dd tail tr sed mkfifo mv rm ln readlink cat sleep; do
    command -v "$tool" >/dev/null || field missing "$tool"
  done
  finish
}
