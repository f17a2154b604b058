
# checkpoint.paths: folders and files outside of what git holds, in the home ("~/...") or the repository. They are saved in the state, raw,
# and come back twice: before setup, and where setup changed them, before the next step.

most_files=100000
# What looks like credentials is saved, since it was asked for, and told.
credential_names='.credentials.json auth.json oauth_creds.json credentials credentials.json .netrc .npmrc .pypirc .env id_rsa id_ed25519 id_ecdsa *.pem *.key *.p12'

# place_of PATH: sets `target`, or `why` it is refused.
place_of() {
  why='' target=''
  case $1 in
    '~/'?*) root=$HOME target=$HOME/${1#'~/'} ;;
    /* | '~'* | '') why='it is neither relative to the repository nor begins with "~/"' ;;
    *) root=$repository target=$repository/$1 ;;
  esac
  target=${target%/}
  case /$1/ in */../* | */./*) why='it leaves the home and the repository' ;; esac
  case $1 in *"$soh"* | *'
'*) why='its name has a line break' ;; esac
  [ -z "$why" ] || return
  if [ -L "$target" ]; then
    why='it is a link'
    return
  fi
  # The nearest folder above that exists must lie where it seems to.
  above=${target%/*}
  while [ ! -d "$above" ] && [ ${#above} -gt ${#root} ]; do above=${above%/*}; done
  case $(cd "$above" 2>/dev/null && pwd -P)/ in
    "$(cd "$root" && pwd -P)"/*) ;;
    *)
      why='a link leads out of the home or the repository on the way to it'
      return
      ;;
  esac
  case $state/ in "$target"/*) why='it holds ~/.switchyard, where checkpoints themselves are kept' ;; esac
  case $repository/ in "$target"/*) why='it holds the repository, which is saved anyway' ;; esac
  case $target/ in "$state"/*) why='it lies in ~/.switchyard, where checkpoints themselves are kept' ;; "$repository"/.git/*) why="it lies in the repository's .git" ;; esac
}

# raw_git FOLDER INDEX ARGUMENT...: the private folder's git with that work tree, and no rule of any kind for what files hold.
raw_git() {
  (
    cd "$1" || exit 128
    export GIT_WORK_TREE="$1" GIT_INDEX_FILE="$2" HOME=/dev/null
    shift 2
    bounded "$git_program" "$@"
  )
}

no_rules() { mkdir -p "$private/info" && echo '* -text -ident !eol !filter !working-tree-encoding' >"$private/info/attributes"; }

# state_paths PATH...: an agent may be writing there. What was written to since the reading began is read again, a little later, so that files
# which belong together (a database and its log) are of one moment, and none is caught half written.
state_paths() {
  : >"$work/path.trees"
  [ $# -gt 0 ] || return 0
  no_rules || out_of_room
  rounds=0
  while :; do
    rounds=$((rounds + 1))
    rm -f "$work/path.began" "$work/path.ended"
    read_paths "$@"
    : >"$work/path.ended" || fail disk ''
    # A time that is still to come is no word of a write.
    while IFS= read -r target; do find "$target" -type f -newer "$work/path.began" ! -newer "$work/path.ended" ! -name '*-shm' 2>/dev/null; done <"$work/path.saved" | head -n 20 >"$work/path.changed"
    [ -s "$work/path.changed" ] || break
    database=
    while IFS= read -r target; do
      case $target in *-wal | *-journal) database=$target ;; *) [ ! -e "$target-wal" ] && [ ! -e "$target-journal" ] || database=$target ;; esac
    done <"$work/path.changed"
    # Of other files two readings are enough: a conversation that only ever grows is whole each time.
    if [ "$rounds" -ge 4 ] || { [ -z "$database" ] && [ "$rounds" -ge 2 ]; }; then
      [ -z "$database" ] || note_path "the database of $(shown "$database") was written to each time that it was read, and may be saved between two of its states"
      break
    fi
    nap 150
  done
  cat "$work/path.notes" >>"$work/notes" && cat "$work/path.meta" >>"$work/meta" && cat "$work/path.entries" >>"$work/entries" || fail disk ''
  rm -rf "$private/info"
}

# read_paths PATH...
#   $work/path.saved  the files and folders that were saved, path.meta, path.entries and path.notes what comes of them
read_paths() {
  for name in trees saved meta entries notes began; do : >"$work/path.$name" || fail disk ''; done
  number=0 left=$most_bytes
  for wanted in "$@"; do
    number=$((number + 1))
    place_of "$wanted"
    if [ -z "$why" ] && [ ! -e "$target" ]; then continue; fi
    [ -n "$why" ] || [ -d "$target" ] || [ -f "$target" ] || why='it is neither a file nor a folder'
    [ -n "$why" ] || measure
    [ -n "$why" ] || save_path
    if [ -n "$why" ]; then note_path "\"$wanted\" is not saved: $why"; else printf '%s\n' "$target" >>"$work/path.saved"; fi
  done
}

note_path() { printf 'checkpoint.paths: %s\n' "$1" | tr '\n' ' ' >>"$work/path.notes" && echo >>"$work/path.notes"; }

# measure: sets `why` when $target is too much, else takes its size off `left`.
measure() {
  size=$(find "$target" -type f -exec ls -ln {} + 2>/dev/null | awk -v most="$left" -v files=$most_files '
    /^-/ { count++; bytes += $5; if (count > files || bytes > most) exit }
    END { if (count > files) print "files"; else if (bytes > most) print "bytes"; else printf "%d\n", bytes }')
  case $size in
    files) why="it has more than $most_files files; name folders that hold less" ;;
    bytes) why="checkpoint.paths are larger than $((most_bytes / 1048576)) MiB together; name less, let the commands keep less there, or raise checkpoint.maxPathsMiB" ;;
    *) left=$((left - size)) ;;
  esac
}

save_path() {
  if [ -f "$target" ]; then
    mode=100644
    [ ! -x "$target" ] || mode=100755
    why="it can't be read"
    [ -r "$target" ] || return
    sha=$(head -c "$((size + 1))" "$target" | git_ hash-object -w --stdin 2>"$work/error") || {
      full_disk $?
      return
    }
    why=
    printf '%s %s\tpaths/%s\n' "$mode" "$sha" "$number" >>"$work/path.entries"
  else
    add_path
    links=$(raw_git "$target" "$work/path.$number" ls-files -s 2>/dev/null | grep '^160000')
    if [ -n "$links" ]; then
      printf '%s\n' "$links" | sed "s/^160000 [0-9a-f]*/0 $no_sha/" | raw_git "$target" "$work/path.$number" update-index --index-info
      note_path "repositories within \"$wanted\" are not saved"
    fi
    sha=$(raw_git "$target" "$work/path.$number" write-tree 2>"$work/error") || {
      full_disk $?
      why="git can't stage it: $(said)"
      return
    }
    [ "$sha" != 4b825dc642cb6eb9a060e54bf8d69288fbee4904 ] || return
    printf '%s %s\n' "$number" "$sha" >>"$work/path.trees"
  fi
  printf 'P %s %s\n' "$number" "$wanted" >>"$work/path.meta"
  set -f
  set -- -name no-such-name
  for like in $credential_names; do set -- "$@" -o -name "$like"; done
  set +f
  secrets=$(find "$target" -type f \( "$@" \) -print 2>/dev/null | head -n 3 | while IFS= read -r file; do printf ' %s' "$(shown "$file")"; done)
  [ -z "$secrets" ] || note_path "what looks like credentials goes to the git host with the checkpoint:$secrets"
}

# add_path: stages the folder $target. Git gives all of it up for one file that goes, or is written to, while it is read: that passes, or else
# is that file's affair alone.
add_path() {
  for _ in 1 2 3; do
    rm -f "$work/path.$number.lock"
    raw_git "$target" "$work/path.$number" add -A -f --ignore-errors . >/dev/null 2>"$work/error"
    added=$?
    full_disk $added
    if [ "$added" -le 1 ]; then
      inside=$(printf '%s' "$wanted" | sed 's/[\\,&/]/\\&/g')
      sed -n -e "s/^error: unable to index file '\(.*\)'\$/checkpoint.paths: a file in \"$inside\" can't be read: \1/p" \
        -e "s/^warning: could not open directory '\(.*\)': .*/checkpoint.paths: a folder in \"$inside\" can't be read: \1/p" "$work/error" | head -n 5 >>"$work/path.notes"
      return
    fi
    case $added in 124 | 137) break ;; esac
    [ "$rounds" -eq 1 ] || break
    nap 50
  done
  refusals=0 add_until=$(($(date +%s) + limit / 4 + 1))
  rm -f "$work/path.$number.lock"
  raw_git "$target" "$work/path.$number" ls-files -c -o 2>/dev/null | sort -u | grep -v '/"*$' >"$work/path.list"
  add_halves "$work/path.list"
}

# add_halves FILE: stages its quoted lines; all or nothing, so the half of them when that fails. What can't be staged keeps its last entry.
add_halves() {
  lines=$(($(wc -l <"$1")))
  if [ "$lines" -gt 0 ]; then
    raw_git "$target" "$work/path.$number" update-index --add --remove --replace --stdin <"$1" >/dev/null 2>"$work/error" || {
      full_disk $?
      rm -f "$work/path.$number.lock"
      if [ "$(date +%s)" -ge "$add_until" ]; then
        [ $refusals -gt 5 ] || note_path "there was no time left to read all of \"$wanted\"; the rest is saved as it was before"
        refusals=6
      elif [ "$lines" -eq 1 ]; then
        refusals=$((refusals + 1))
        [ $refusals -gt 5 ] || note_path "a file in \"$wanted\" changed each time that it was read, or can't be read, and is saved as it was before: $(cat "$1")"
      else
        sed "1,$((lines / 2))d" "$1" >"${1}b" && sed -n "1,$((lines / 2))p" "$1" >"${1}a" || fail disk ''
        add_halves "${1}a"
        add_halves "${1}b"
      fi
    }
  fi
  rm -f "$1"
}

# put_paths STATE PATH...: what the state holds of those paths. Sets `paths_put` to how many there were.
put_paths() {
  paths_put=0 from_state=$1
  shift
  [ $# -gt 0 ] || return 0
  no_rules || out_of_room
  git_ cat-file blob "$from_state:meta" | sed -n 's/^P //p' >"$work/held"
  while read -r number wanted; do
    case $number in '' | *[!0-9]*) continue ;; esac
    # Only what the job itself names, whatever the state says.
    named=
    for each in "$@"; do [ "$each" != "$wanted" ] || named=1; done
    [ -n "$named" ] || continue
    place_of "$wanted"
    [ -n "$why" ] || put_path
    if [ -n "$why" ]; then note "checkpoint.paths: \"$wanted\" is not put in place: $why"; else paths_put=$((paths_put + 1)); fi
  done <"$work/held"
  rm -rf "$private/info"
}

put_path() {
  old_mask=$(umask)
  # What was in the home was most likely nobody else's to read.
  case $wanted in '~/'*) umask 077 ;; esac
  case $(git_ cat-file -t "$from_state:paths/$number" 2>/dev/null) in
    blob)
      mkdir -p "${target%/*}" && { [ ! -d "$target" ] || rm -rf "$target"; }
      git_ cat-file blob "$from_state:paths/$number" >"$work/path.blob" 2>/dev/null && { cmp -s "$work/path.blob" "$target" || cat "$work/path.blob" >"$target"; } || {
        if_no_room
        why="it can't be written"
      }
      [ -z "$(git_ ls-tree "$from_state" "paths/$number" | sed -n '/^100755/p')" ] || chmod +x "$target"
      ;;
    tree)
      [ -d "$target" ] || rm -f "$target"
      mkdir -p "$target" || why="it can't be written"
      [ -f "$work/put.$number" ] || raw_git "$target" "$work/put.$number" read-tree "$from_state:paths/$number" 2>"$work/error"
      raw_git "$target" "$work/put.$number" checkout-index -a -f -u -q 2>"$work/error" || {
        full_disk $?
        why="git can't write it: $(said)"
      }
      ;;
    *) why='the checkpoint does not have it' ;;
  esac
  umask "$old_mask"
}
