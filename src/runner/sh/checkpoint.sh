
# Sets `head` to the agent's HEAD, read without its configuration, and takes its commits over. A HEAD that can't be read, is
# incomplete or does not descend from the base (a deleted or new .git) counts as the last one that did.
agent_head() {
  first_line "$state/base" && is_sha "$line" || fail no-state "$state/base"
  base=$line
  first_line "$state/head" && is_sha "$line" || fail no-state "$state/head"
  known=$line head=$line
  own=$repository/.git
  [ -d "$own" ] && [ ! -L "$own" ] && first_line "$own/HEAD" || return 0
  tip=$line
  case $line in
    *..*) return 0 ;;
    'ref: refs/'*)
      name=${line#ref: }
      if first_line "$own/$name"; then tip=$line; elif [ -f "$own/packed-refs" ]; then
        while read -r packed packed_name; do
          [ "$packed_name" != "$name" ] || tip=$packed
        done <"$own/packed-refs"
      fi
      ;;
  esac
  is_sha "$tip" && [ "$tip" != "$known" ] && [ -d "$own/objects" ] || return 0
  (
    export GIT_ALTERNATE_OBJECT_DIRECTORIES="$own/objects"
    git_ merge-base --is-ancestor "$base" "$tip" &&
      printf '%s\n^%s\n^%s\n' "$tip" "$base" "$known" | git_ pack-objects -q --revs "$private/objects/pack/pack" >/dev/null
  ) || return 0
  git_ cat-file -e "$tip^{tree}" || return 0
  head=$tip
  printf '%s\n' "$head" >"$state/head" || fail disk ''
}

# Sets `tree` to the work tree's: from HEAD's files on, with all that is not ignored.
work_tree() {
  [ -d "$repository" ] && [ ! -L "$repository" ] || fail no-tree "$repository"
  output=$(stage) || {
    case $output in *'No space left'* | *'quota exceeded'*) fail disk "$output" ;; esac
    # An index that was damaged is made anew, once.
    rm -f "$state/index" "$state/index.head" "$state"/*.lock
    output=$(stage) || fail git "$output"
  }
  tree=$(git_ write-tree 2>&1) || fail git "$tree"
}

stage() {
  {
    first_line "$state/index.head" || line=
    if [ ! -f "$state/index" ]; then
      git_ read-tree "$head" || return 1
    elif [ "$line" != "$head" ]; then
      # Files that are alike keep what the index knows of them, so they are not read again.
      git_ read-tree -i -m "$head" || return 1
    fi
    printf '%s\n' "$head" >"$state/index.head" || return 1
    # For a submodule in the index "add" would run git inside it, under the submodule's own configuration. So these leave the
    # index, come back as what "add" finds there, or as they were when it finds a folder that is no repository.
    links=$(git_ ls-files --stage | sed -n '/^160000 /p')
    [ -z "$links" ] || printf '%s\n' "$links" | sed "s/^160000 [0-9a-f]*/0 $no_sha/" | git_ update-index --index-info || return 1
    # A file that can't be read, or a repository within that has no commit, is left out; anything else is an error.
    said=$(git_in_tree add -A --ignore-errors 2>&1) || case $said in
      *'No space left'* | *'quota exceeded'* | *'fatal: '*)
        printf '%s' "$said"
        return 1
        ;;
    esac
    [ -z "$links" ] || printf '%s\n' "$links" | lost_links | git_ update-index --index-info || return 1
    # Ignored files that the agent added all the same.
    [ ! -f "$repository/.git/index" ] ||
      GIT_INDEX_FILE=$repository/.git/index git_in_tree ls-files -z -c -i --exclude-standard 2>/dev/null |
      git_in_tree update-index -z --add --remove --stdin
    git_in_tree diff-index --cached --name-only -z --diff-filter=D "$head" |
      git_in_tree update-index -z --add --remove --stdin
    return 0
  } 2>&1
}

# Of the index entries on stdin, those whose folder is there while the index has nothing for it.
lost_links() {
  while IFS= read -r entry; do
    link=${entry#*"$tab"}
    case $link in
      # Quoted: an odd name, which only git can read.
      '"'*) ;;
      *)
        [ -d "$repository/$link" ] && [ ! -L "$repository/$link" ] || continue
        [ -z "$(GIT_LITERAL_PATHSPECS=1 git_in_tree ls-files --stage -- "$link")" ] || continue
        ;;
    esac
    printf '%s\n' "$entry"
  done
}

# write_commit NAME EMAIL NAME EMAIL DATE PARENT...: author, committer, and the message as base64 in $message; sets `made`.
write_commit() {
  export GIT_AUTHOR_NAME="$1" GIT_AUTHOR_EMAIL="$2" GIT_COMMITTER_NAME="$3" GIT_COMMITTER_EMAIL="$4"
  if [ "$5" != - ]; then export GIT_AUTHOR_DATE="$5 +0000" GIT_COMMITTER_DATE="$5 +0000"; fi
  shift 5
  parents=
  for parent_sha in "$@"; do parents="$parents -p $parent_sha"; done
  # shellcheck disable=SC2086 # options and shas
  made=$(printf '%s' "$message" | decode | git_ commit-tree "$tree" $parents 2>&1) || fail git "$made"
  is_sha "$made" || fail git "$made"
}

# push_to BRANCH SHA NEGOTIATE: a push to a new branch asks first what the host has, so that it need not send the base again.
push_to() {
  output=$(git_remote -c "push.negotiate=$3" push -q --no-verify --porcelain "$url" "$2:refs/heads/$1" 2>&1) || fail git "$output"
}

# checkpoint URL BRANCH PARENT BASE NAME EMAIL MESSAGE: the last three as base64; URL is "-" to push nothing.
checkpoint() {
  url=$1 branch=$2 parent=$3 message=$7
  name=$(printf '%s' "$5" | decode) email=$(printf '%s' "$6" | decode)
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  printf '%s\n' "$4" >"$state/base" || fail disk ''
  negotiate=false
  [ "$parent" != "$4" ] || negotiate=true
  git_config
  agent_head
  work_tree
  # An earlier call for the same parent may have been pushed though its answer was lost: go on from there.
  attempted='' attempted_tree='' attempted_head=''
  if [ -f "$state/attempt" ]; then
    read -r from attempted attempted_tree attempted_head <"$state/attempt"
    [ "$from" = "$parent" ] && git_ cat-file -e "$attempted^{commit}" || attempted=
  fi
  if [ -n "$attempted" ]; then
    if [ "$attempted_tree $attempted_head" = "$tree $head" ]; then made=$attempted; else new_checkpoint "$attempted"; fi
  else
    # The HEAD within a checkpoint is its last parent; the base is its own.
    parent_head=$parent
    [ "$parent" = "$base" ] || parent_head=$(git_ rev-parse -q --verify "$parent^2") || parent_head=$(git_ rev-parse -q --verify "$parent^1")
    if [ "$(git_ rev-parse "$parent^{tree}") $parent_head" = "$tree $head" ]; then
      begin
      field none 1
      finish
    fi
    new_checkpoint "$parent"
  fi
  [ "$url" = - ] || push_to "$branch" "$made" "$negotiate"
  begin
  field sha "$made"
  field head "$head"
  field ahead "$(git_ rev-list --count "$head" "^$base")"
  finish
}

# new_checkpoint PARENT: HEAD is a parent as well, which keeps the agent's commits and says where HEAD was.
new_checkpoint() {
  set -- "$1" "$head"
  [ "$1" != "$2" ] || shift
  write_commit "$name" "$email" "$name" "$email" - "$@"
  printf '%s %s %s %s\n' "$parent" "$made" "$tree" "$head" >"$state/attempt" || fail disk ''
}

# commit AUTHOR_NAME AUTHOR_EMAIL COMMITTER_NAME COMMITTER_EMAIL DATE MESSAGE: all but the date as base64.
commit() {
  message=$6
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  agent_head
  work_tree
  made=$head
  [ "$tree" = "$(git_ rev-parse "$head^{tree}")" ] ||
    write_commit "$(printf '%s' "$1" | decode)" "$(printf '%s' "$2" | decode)" \
      "$(printf '%s' "$3" | decode)" "$(printf '%s' "$4" | decode)" "$5" "$head"
  begin
  field sha "$made"
  field head "$head"
  finish
}

# push URL BRANCH SHA
push() {
  url=$1
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  git_ cat-file -e "$3^{commit}" || fail no-commit "$3"
  push_to "$2" "$3" true
  begin
  finish
}
