
# Checkpoints and the final commit: what was staged, with the agent's HEAD and its state as parents, taken over into the private folder.
# It is pushed by a call of its own, the only one that has a token.

# open_save BASE LIMIT NESTED: everything that is the same for both. Sets `known`, the last HEAD that was carried, and `held`, the last one
# that the host has.
open_save() {
  base=$1 limit=$2 nested_as=$3 carried=0
  short_limit=$((limit / 6 > 2 ? limit / 6 : 2))
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  [ "$base" != - ] || { first_line "$state/base" && base=$line; }
  is_sha "$base" || fail no-state "$state/base"
  put base "$base"
  first_line "$state/head" && is_sha "$line" || fail no-state "$state/head"
  known=$line held=$line
  ! first_line "$state/held" || ! is_sha "$line" || held=$line
  [ -d "$repository" ] && [ ! -L "$repository" ] || fail no-tree "$repository"
  outermost=1 within_kind='' work=$state/save
  take_room
  # What a save that came to no end has left to go by may be half written. The file says something from a save's end until the next begins.
  [ -s "$work/whole" ] || for file in "$work"/*; do
    case ${file##*/} in last.index | bad) ;; *) rm -rf "$file" ;; esac
  done
  { [ -d "$work" ] || mkdir -p "$work"; } && : >"$work/whole" || fail disk ''
  open_agent "$repository" "$work"
  agent_head
  [ -n "$usable" ] || head=$known
  from=${head:-$base} origin=$base
}

# gather PATH...: stages, and writes the state.
gather() {
  # A folder for what belongs to repositories within, which have their own names for all of this.
  stage
  state_of
  [ -z "$usable" ] || state_within
  state_paths "$@"
  state_written
}

# saved: before the answer.
saved() {
  kept_room
  echo 1 >"$work/whole"
}

# carry SHA: takes over what leads to it and is still the agent's alone. Sets `carried` to the bytes that it holds beyond the parent.
carry() {
  is_whole "$1" && return
  # It fails when it can't read an object, so there is nothing to look for after it.
  if packed=$(printf '%s\n^%s\n^%s\n' "$1" "$base" "${parent:-$base}" | lent pack-objects -q --revs "$private/objects/pack/pack" 2>"$work/error"); then
    [ ! -f "$private/objects/pack/pack-$packed.pack" ] || carried=$(($(wc -c <"$private/objects/pack/pack-$packed.pack")))
    return 0
  else
    code=$?
  fi
  full_disk $code
  # One that was killed has found nothing missing.
  [ $code -le 128 ] || fail killed "$code"
  is_whole "$1"
}

is_whole() {
  carried=$(git_ rev-list --objects --disk-usage "$1" "^$base" "^${parent:-$base}" 2>"$work/missing") && return
  carried=0
  # A git before 2.31 knows no sizes.
  git_ rev-list --objects --quiet "$1" "^$base" "^${parent:-$base}" 2>"$work/missing" >/dev/null
}

# take_shallow: where the agent's own history ends, the private folder's does as well.
take_shallow() {
  [ -n "$usable" ] && [ -f "$common/shallow" ] && [ -f "$private/shallow" ] && ! cmp -s "$common/shallow" "$private/shallow" || return 0
  [ "$(($(wc -l <"$common/shallow")))" -lt 10000 ] || return 0
  { cat "$private/shallow"; grep -E '^[0-9a-f]{40}$' "$common/shallow"; } | sort -u >"$work/shallow" && cmp -s "$work/shallow" "$private/shallow" ||
    cp "$work/shallow" "$private/shallow"
}

# write_commit NAME EMAIL NAME EMAIL DATE PARENT...: author and committer, the message in $work/message; sets `made`.
write_commit() {
  export GIT_AUTHOR_NAME="$1" GIT_AUTHOR_EMAIL="$2" GIT_COMMITTER_NAME="$3" GIT_COMMITTER_EMAIL="$4"
  if [ "$5" != - ]; then export GIT_AUTHOR_DATE="$5 +0000" GIT_COMMITTER_DATE="$5 +0000"; fi
  shift 5
  parents=
  for parent_sha in "$@"; do parents="$parents -p $parent_sha"; done
  # shellcheck disable=SC2086 # options and shas
  made=$(lent commit-tree "$tree" $parents <"$work/message" 2>"$work/error") || not_saved $?
  is_sha "$made" || fail work "$made"
  unset GIT_AUTHOR_DATE GIT_COMMITTER_DATE
}

# next_line: sets `line` to the first one of $text, which loses it.
next_line() {
  line=${text%%"$newline"*}
  text=${text#*"$newline"}
}

# checkpoint PARENT BASE WORDS LIMIT NESTED MAX_BYTES PATH...: the words are name, email and message, a line each but for the message, as
# "decoded" takes them; the limit is in seconds.
checkpoint() {
  parent=$1 most_bytes=$6
  decoded "$3"
  next_line && saver=$line
  next_line && saver_email=$line
  confirmed "$parent"
  open_save "$2" "$4" "$5"
  printf '%s' "$text" >"$work/message" || fail disk ''
  shift 6
  gather "$@"
  # An earlier call for the same parent may have been pushed though its answer was lost: go on from there.
  on=$parent from_parent='' last='' last_plain='' last_contents=''
  if [ -f "$state/attempt" ]; then
    read -r from_parent last last_plain last_tree last_state <"$state/attempt"
    last_contents="$last_tree $last_state"
  fi
  if [ "$from_parent" = "$parent" ] && git_ cat-file -e "$last^{commit}"; then on=$last; else
    case $parent in "$last" | "$last_plain") ;; *) contents_of "$parent" ;; esac
    if [ "$last_contents" = "$tree $state_commit" ] || is_as_cloned; then
      saved
      begin
      field none 1
      report
      finish
    fi
  fi
  descends=$(descends "$head")
  if [ "$on" = "$parent" ] || [ "$last_contents" != "$tree $state_commit" ]; then
    new_checkpoint
  else
    made=$last plain=$last_plain
  fi
  saved
  begin
  field sha "$made"
  field head "${head:--}"
  field ahead "$(ahead "$head")"
  field descends "$descends"
  field plain "$plain"
  field plain-head "$held"
  field plain-ahead "$(ahead "$held")"
  field paths "$(if [ $# -gt 0 ]; then grep -c '^P ' "$work/meta"; else echo 0; fi)"
  field bytes "$carried"
  report
  finish
}

# contents_of SHA: sets `last_contents` to a checkpoint's tree and state.
contents_of() {
  state_in "$1"
  last_contents="$(git_ rev-parse "$1^{tree}") $found_state"
}

# state_in SHA: sets `found_state` to the state that a checkpoint has as its last parent; empty when it has none.
state_in() {
  found_state=$(git_ cat-file commit "$1" 2>/dev/null | sed -n '/^$/q; s/^parent //p' | tail -n 1)
  [ -n "$found_state" ] && git_ cat-file -e "$found_state:meta" 2>/dev/null || found_state=
}

# Whether nothing happened since the clone.
is_as_cloned() {
  [ "$parent" = "$base" ] && [ "$head" = "$base" ] && [ "$tree" = "$(git_ rev-parse "$base^{tree}")" ] && [ ! -s "$work/entries" ] &&
    grep -v '^L ' "$work/meta" | cmp -s - "$state/trivial"
}

# ahead SHA: how many commits the base is behind.
ahead() {
  case $1 in '' | "$base") echo 0 ;; *) git_ rev-list --count "$1" "^$base" 2>/dev/null || echo 0 ;; esac
}

# descends SHA: 1 when the base leads to it.
descends() {
  if [ "$1" = "$base" ]; then echo 1; elif [ -n "$1" ] && lent merge-base --is-ancestor "$base" "$1" 2>/dev/null; then echo 1; else echo 0; fi
}

# new_checkpoint: HEAD is a parent as well, which keeps the agent's commits. Beside it one with the files alone, on the last history that the
# host has: it may refuse the rest.
new_checkpoint() {
  set -- "$on"
  [ "$held" = "$on" ] || set -- "$on" "$held"
  write_commit "$saver" "$saver_email" "$saver" "$saver_email" - "$@"
  plain=$made
  set -- "$on"
  if [ -n "$head" ] && [ "$head" != "$on" ]; then set -- "$on" "$head"; fi
  write_commit "$saver" "$saver_email" "$saver" "$saver_email" - "$@" "$state_commit"
  take_shallow
  # One branch that has lost objects costs no other its commits.
  whole=1
  carry "$made" || {
    find_unsound && state_written && write_commit "$saver" "$saver_email" "$saver" "$saver_email" - "$@" "$state_commit" && carry "$made"
  } || whole=''
  # What was made without room is no attempt.
  if_no_room
  # What leads to the one leads to the other: the same files, on history that was carried before.
  if [ -n "$whole" ]; then
    [ "$descends" = 0 ] || {
      put head "$head"
      put head.made "$made $head"
    }
  else
    note "the agent's git folder lacks objects of its own history, so this checkpoint holds its files alone: $(head -n 1 "$work/missing" | cut -c 1-200)"
    carry "$plain" || fail work "the agent's git folder lacks objects of the files that it holds: $(head -n 1 "$work/missing")"
    made=$plain head=$held descends=$(descends "$held")
    grep -v '^P ' "$work/meta" >"$work/meta.plain"
    mv "$work/meta.plain" "$work/meta"
  fi
  put attempt "$parent $made $plain $tree $state_commit"
}

# confirmed SHA: the host has this checkpoint, and so the agent's HEAD that it leads to.
confirmed() {
  [ -f "$state/head.made" ] || return 0
  read -r made_sha made_head <"$state/head.made"
  [ "$made_sha" != "$1" ] || put held "$made_head"
}

# commit DATE WORDS LIMIT NESTED: the words are the author's name and email, the committer's, and the message, as for a checkpoint.
commit() {
  parent='' date=$1
  decoded "$2"
  next_line && author=$line
  next_line && author_email=$line
  next_line && committer=$line
  next_line && committer_email=$line
  open_save - "$3" "$4"
  printf '%s' "$text" >"$work/message" || fail disk ''
  most_bytes=0
  gather
  on_top_of "$held"
  plain=$made
  carry "$plain" || fail work "the agent's git folder lacks objects of the files that it holds: $(head -n 1 "$work/missing")"
  on_top_of "$head"
  take_shallow
  carry "$made" || {
    note "the agent's git folder lacks objects of its own history, so its files are saved as one commit on $known: $(head -n 1 "$work/missing" | cut -c 1-200)"
    head=$known
    on_top_of "$known"
    carry "$made" || made=$plain head=$held
  }
  # What other branches hold, for those who push them.
  carry "$state_commit" || { find_unsound && state_written && carry "$state_commit"; } || : >"$work/tips"
  saved
  begin
  field sha "$made"
  field head "${head:--}"
  field descends "$(descends "$made")"
  field plain "$plain"
  report
  finish
}

# on_top_of HEAD: sets `made` to HEAD, or to one commit on it where files differ.
on_top_of() {
  made=$1
  if [ -n "$1" ]; then
    [ "$tree" != "$(lent rev-parse "$1^{tree}")" ] || return 0
    set -- "$1"
  else set --; fi
  write_commit "$author" "$author_email" "$committer" "$committer_email" "$date" "$@"
}

# report: what there is to tell, bounded.
report() {
  count=0
  if [ -s "$work/unsaved" ]; then
    sort -u "$work/unsaved" >"$work/unsaved.all"
    count=$(($(wc -l <"$work/unsaved.all")))
    head -n 200 "$work/unsaved.all" | cut -c 1-2000 | blob unsaved
  else empty_blob unsaved; fi
  field unsaved-more $((count > 200 ? count - 200 : 0))
  if [ -s "$work/notes" ]; then head -n 50 "$work/notes" | cut -c 1-1000 | blob notes; else empty_blob notes; fi
  # The branch that HEAD is on says nothing new.
  if others_tips; then kept | head -n 50 | blob kept; else empty_blob kept; fi
}

others_tips() {
  while read -r sha _; do
    case $sha in "$head" | "$base") ;; *) return 0 ;; esac
  done <"$work/tips"
  return 1
}

# kept: of the tips of branches, worktrees and submodules, those that the agent's HEAD does not lead to, nor the base.
kept() {
  [ -s "$work/tips" ] || return 0
  cut -d ' ' -f 1 "$work/tips" | sort -u >"$work/tips.shas"
  { cat "$work/tips.shas"; echo "^$base"; [ -z "$head" ] || echo "^$head"; } | lent rev-list --stdin 2>/dev/null | sort | comm -12 "$work/tips.shas" - >"$work/tips.kept"
  sort -u "$work/tips" | while read -r sha ref; do
    ! grep -q "^$sha" "$work/tips.kept" || printf '%s %s\n' "$sha" "$ref"
  done
}

# push URL BRANCH SHA
push() {
  url=$1
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  git_ cat-file -e "$3^{commit}" || fail no-commit "$3"
  settle_attempt "$3"
  lfs_upload "$2" "$3"
  # A push to a new branch asks first what the host has, so that it need not send the base again.
  output=$(git_remote -c push.negotiate=true push -q --no-verify --porcelain "$url" "$3:refs/heads/$2" 2>&1) || fail git "$output"
  confirmed "$3"
  begin
  finish
}

# settle_attempt SHA: when the files alone of the last checkpoint are to be pushed, the host has refused the whole of it: what comes
# next must not build on that.
settle_attempt() {
  [ -f "$state/attempt" ] || return 0
  read -r from_parent last last_plain last_contents <"$state/attempt"
  [ "$1" = "$last_plain" ] && [ "$last" != "$last_plain" ] || return 0
  put attempt "$from_parent $last_plain $last_plain $last_contents"
}
