
# State: what a commit's tree can't hold. A commit of its own that each checkpoint has as its last parent, and that no branch of the job's
# ever leads to. Its tree is made of
#   meta       lines, by their first letter; newlines in names stand there as the byte 1:
#     V 1                        the format
#     H REF or H SHA or H        HEAD
#     R SHA TYPE REF [TARGET]    a ref; those of remotes are left out
#     C KEY \1 VALUE             the configuration of the repository, Q: of this worktree alone, G: of the user where it changed since the first clone
#     D PATH                     what the staged tree has and the agent's index has not, I: what the agent's index has instead, N: intended only
#     O                          there is no index yet
#     F LETTER PATH              a flag of an entry, W MODE PATH: the content of such a file is raw/N, N the line's number, A PATH: it is absent
#     E PATH                     an empty folder, M MODE PATH: a mode that is none of the two that files have here
#     K SHA KIND PATH            a checkpoint of the repository, worktree or submodule there; ~/ stands for the home, ../ for the folder
#                                that the repository lies in
#     T FOLDER                   of a submodule: its git folder, below the one that it belongs to; none where it lies in its work tree
#     L NAME                     a filter that is configured
#     P N PATH                   one of checkpoint.paths, which is paths/N
#   git/       files of operations under way, of the stash's list, of private excludes; links as links
#   tags/      tag objects; objects/: blobs and trees that refs or the index name
# Its parents are the commits that refs and operations name. The same state is the same commit: it has no time of its own.

operation_files='MERGE_HEAD MERGE_MSG MERGE_MODE MERGE_RR MERGE_AUTOSTASH CHERRY_PICK_HEAD REVERT_HEAD ORIG_HEAD REBASE_HEAD AUTO_MERGE SQUASH_MSG
  BISECT_LOG BISECT_START BISECT_NAMES BISECT_TERMS BISECT_EXPECTED_REV BISECT_ANCESTORS_OK BISECT_FIRST_PARENT BISECT_HEAD BISECT_RUN
  NOTES_MERGE_REF NOTES_MERGE_PARTIAL NOTES_MERGE_WORKTREE rebase-merge rebase-apply sequencer'
shared_files='info/exclude info/attributes info/sparse-checkout info/grafts logs/refs/stash rr-cache hooks'
# Of a linked worktree alone.
linked_files='info/sparse-checkout locked'
# Nothing larger is carried along of a repository that is not the job's own, in KiB.
most_foreign_kib=65536
most_git_files=2000

# agent_head: sets `head` (empty when there is no commit yet) and `head_ref` (empty when HEAD is detached).
agent_head() {
  head='' head_ref=''
  [ -n "$usable" ] || return 0
  head_ref=$(agent_ symbolic-ref -q HEAD 2>/dev/null) || head_ref=
  head=$(agent_ rev-parse -q --verify 'HEAD^{commit}' 2>/dev/null) || head=
  # A branch without a commit has nothing to name.
  if [ -z "$head" ] && [ -n "$outermost" ] && gone=$(agent_ rev-parse -q --verify HEAD 2>/dev/null) && is_sha "$gone"; then
    head=$known
    note "the agent's git folder lacks the commit $gone, which HEAD names; the last one that was saved is taken in its place"
  fi
  [ -n "$head$head_ref" ] || stand_in "git takes the agent's HEAD for nothing that is known"
}

# state_of: of the opened and staged work tree. Sets `state_commit`, and writes the commits of other branches to $work/tips.
state_of() {
  : >"$work/entries"
  : >"$work/commits"
  : >"$work/words"
  if [ -n "$usable" ]; then
    {
      echo 'V 1'
      printf 'H %s\n' "${head_ref:-$head}"
    } >"$work/meta" || fail disk ''
    state_refs
    state_stash
    state_operations
    state_configuration
    : >"$work/raw"
    : >"$work/present"
    state_index
    state_objects
  else
    echo 'V 1' >"$work/meta" || fail disk ''
  fi
  settle_walk
  state_folders
  if [ -n "$usable" ]; then
    state_converted
    state_links
    state_raw
  fi
  [ ! -s "$work/filters.now" ] || sed 's/^/L /' "$work/filters.now" >>"$work/meta"
  [ ! -s "$work/filters.gone" ] || sed 's/^/L /' "$work/filters.gone" >>"$work/meta"
}

# state_written: what was gathered, as a commit. Apart from it, because the outermost repository has more to add.
#   $work/unsound  commits, of other branches and the like, below which objects are gone
state_written() {
  [ ! -s "$work/unsound" ] || leave_out_unsound
  [ ! -s "$work/within" ] || sed -n 's/^K \([0-9a-f]*\) .*/\1/p' "$work/meta" >>"$work/commits"
  sha=$(git_ hash-object -w --stdin <"$work/meta" 2>"$work/error") || not_saved $?
  {
    printf '100644 %s\tmeta\n' "$sha"
    [ ! -s "$work/entries" ] || cat "$work/entries"
  } >"$work/tree.in" || fail disk ''
  sort -u "$work/commits" >"$work/named"
  {
    echo "$base"
    cat "$work/tree.in" "$work/named" "$work/path.trees" 2>/dev/null
  } >"$work/state.in"
  # The same as the last time.
  if cmp -s "$work/state.in" "$work/state.was" && first_line "$work/state.commit" && is_sha "$line"; then
    state_commit=$line
    return 0
  fi
  rm -f "$work/state.index" "$work/state.was"
  state_tree=$(write_state_tree 2>"$work/error") || not_saved $?
  named=
  if [ -s "$work/named" ]; then
    { cat "$work/named"; echo "^$base"; } | lent rev-list --stdin 2>"$work/error" | sort | comm -12 "$work/named" - >"$work/parents" || : >"$work/parents"
    count=0
    while read -r sha; do
      count=$((count + 1))
      [ $count -le 500 ] || {
        note 'more than 500 refs hold commits of their own; only the first 500 of them are saved'
        break
      }
      named="$named -p $sha"
    done <"$work/parents"
  fi
  # shellcheck disable=SC2086 # options and shas
  state_commit=$(GIT_AUTHOR_NAME=switchyard GIT_AUTHOR_EMAIL=switchyard@localhost GIT_COMMITTER_NAME=switchyard \
    GIT_COMMITTER_EMAIL=switchyard@localhost GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000' lent commit-tree "$state_tree" $named 2>"$work/error" <<END
State of a checkpoint
END
  ) || not_saved $?
  printf '%s\n' "$state_commit" >"$work/state.commit" && mv "$work/state.in" "$work/state.was"
}

# find_unsound: what of the state leads to objects that are gone, and is not HEAD. Fails when there is none.
find_unsound() {
  head -n 500 "$work/named" >"$work/suspect"
  : >"$work/unsound.now"
  while read -r sha; do
    [ "$sha" = "$head" ] || lent rev-list --objects --quiet "$sha" "^$base" >/dev/null 2>&1 || printf '%s\n' "$sha" >>"$work/unsound.now"
  done <"$work/suspect"
  [ -s "$work/unsound.now" ] && mv "$work/unsound.now" "$work/unsound"
}

# leave_out_unsound: what was unsound the last time, and still is.
leave_out_unsound() {
  : >"$work/unsound.now"
  while read -r sha; do lent rev-list --objects --quiet "$sha" "^$base" >/dev/null 2>&1 || printf '%s\n' "$sha" >>"$work/unsound.now"; done <"$work/unsound"
  mv "$work/unsound.now" "$work/unsound"
  [ -s "$work/unsound" ] || return 0
  awk 'FILENAME ~ /\/unsound$/ { unsound[$1] = 1; next } $1 == "R" && ($2 in unsound) { print $4 }' "$work/unsound" "$work/meta" | head -n 5 | while IFS= read -r name; do
    note "the ref $name is not saved: the agent's git folder lacks objects that it leads to"
  done
  awk 'FILENAME ~ /\/unsound$/ { unsound[$1] = 1; next } $1 != "R" || !($2 in unsound)' "$work/unsound" "$work/meta" >"$work/meta.sound" && mv "$work/meta.sound" "$work/meta"
  for each in commits tips; do
    [ -f "$work/$each" ] || continue
    awk 'FILENAME ~ /\/unsound$/ { unsound[$1] = 1; next } !($1 in unsound)' "$work/unsound" "$work/$each" >"$work/$each.sound"
    mv "$work/$each.sound" "$work/$each"
  done
}

write_state_tree() {
  export GIT_INDEX_FILE="$work/state.index"
  git_ update-index --add --index-info <"$work/tree.in" || return
  if [ -s "$work/path.trees" ]; then
    while read -r number sha; do git_ read-tree --prefix="paths/$number/" "$sha" || return; done <"$work/path.trees"
  fi
  lent write-tree --missing-ok
}
