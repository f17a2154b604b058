
# Artifacts: files of the work tree that are to outlive the sandbox. They are looked for where they seem to lie: no link is followed, neither
# as a file nor on the way to one, and nothing is opened that is no regular file. That is for honest jobs, so that each gets what it named:
# a job that swaps a file in between can't reach more than it could have copied there. Nothing is written, since the disk may be full.

longest_path=600

# in_tree PATH: whether no link lies on the way to it.
in_tree() {
  above=$repository
  case $1 in */*) above=$repository/${1%/*} ;; esac
  [ "$(cd "$above" && pwd -P)" = "$(cd "$repository" && pwd -P)${above#"$repository"}" ]
}

# artifacts LIMIT MOST [BASE EXPRESSION]...: the files below each BASE whose path matches its EXPRESSION. Answers lines: "F SIZE PATH" for a
# file, and for what can't be had "L PATH" a link, "W PATH" behind a link, "S PATH" no regular file, "U PATH" unreadable, "N PATH" an odd name, "M" more
# than MOST, "T" not all was looked at within LIMIT seconds.
artifacts() {
  limit=$1 most=$2
  shift 2
  git_environment
  [ -d "$repository" ] && [ ! -L "$repository" ] || fail no-tree "$repository"
  begin
  artifacts_matched "$@" | LC_ALL=C awk -v most="$most" 'seen[$0]++ { next } ++count > most { print "M"; exit } { print }' | artifacts_told | blob files
  finish
}

# artifacts_matched BASE EXPRESSION...: lines with a letter before the path; "?" for what was found.
artifacts_matched() {
  while [ $# -ge 2 ]; do
    base=$1 from=./$1
    [ -n "$1" ] || from=.
    export EXPRESSION="$2"
    shift 2
    if [ -L "$repository/$base" ]; then
      printf 'L %s\n' "$base"
    elif [ ! -e "$repository/$base" ]; then
      continue
    elif ! in_tree "$base"; then
      printf 'W %s\n' "$base"
    else
      # A line for each: a line break within a name becomes a character that no name should have.
      {
        (cd "$repository" && bounded find "$from" -name .git -prune -o ! -type d -print0)
        case $? in 124 | 137) printf '\002\000' ;; esac
      } | tr '\n\000' '\001\n' | LC_ALL=C awk -v most="$most" -v longest=$longest_path '
        $0 == "\002" { print "T"; next }
        { path = substr($0, 3) }
        path !~ ENVIRON["EXPRESSION"] { next }
        ++count > most + 1 { exit }
        path ~ /\001/ || length(path) > longest { print "N " substr(path, 1, longest); next }
        { print "? " path }'
    fi
  done
}

artifacts_told() {
  while IFS= read -r line; do
    case $line in '? '*) ;; *)
      printf '%s\n' "$line"
      continue
      ;;
    esac
    path=${line#'? '}
    if [ -L "$repository/$path" ]; then
      printf 'L %s\n' "$path"
    elif [ ! -f "$repository/$path" ]; then
      printf 'S %s\n' "$path"
    elif [ ! -r "$repository/$path" ]; then
      printf 'U %s\n' "$path"
    else
      size_of "$repository/$path"
      printf 'F %s %s\n' "$size" "$path"
    fi
  done
}

# size_of FILE: sets `size`, in bytes, without reading it.
size_of() {
  set -f
  # shellcheck disable=SC2046 # its fields; what the name holds comes after them
  set -- $(LC_ALL=C ls -lnd "$1")
  set +f
  size=${5-}
  case $size in '' | *[!0-9]*) size=0 ;; esac
}

is_artifact() { [ -f "$repository/$1" ] && [ ! -L "$repository/$1" ] && [ -r "$repository/$1" ] && in_tree "$1"; }

# artifacts_read LIMIT [SIZE PATH]...: the first SIZE bytes of small files, a line of base64 for each; "-" for one that is gone. Of one that could not
# be read to its end there is a "!" in it.
artifacts_read() {
  limit=$1
  shift
  git_environment
  begin
  while [ $# -ge 2 ]; do
    if is_artifact "$2"; then
      { { (bounded head -c "$1" "$repository/$2" 3>&-) || printf '!' >&3; } | base64 | tr -d '\n'; } 3>&1
    else printf '%s' -; fi
    echo
    shift 2
  done | blob files
  finish
}

# artifacts_piece LIMIT BLOCK BLOCKS PATH: that many blocks of 4096 bytes of a file, from that block on.
artifacts_piece() {
  limit=$1
  git_environment
  is_artifact "$4" || fail no-artifact "$4"
  begin
  (bounded dd if="$repository/$4" bs=4096 skip="$2" count="$3" 2>/dev/null) | blob piece
  finish
}
