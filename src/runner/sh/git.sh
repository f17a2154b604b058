
# Git, as it was never touched by the repository's content or by the commands that ran here. A git folder outside of the work
# tree, $state/git, holds what was fetched and is used for every commit and transfer: a rewritten .git/config, added hooks
# or a deleted .git concern the agent's own git only. Beside it:
#   index   the index of checkpoints; index.head names the commit that it was last based on
#   base    the commit where the job started; head the agent's last HEAD that descends from it
#   attempt "PARENT SHA TREE HEAD" of the last checkpoint that a push was tried with

private=$state/git
no_sha=0000000000000000000000000000000000000000
tab=$(printf '\t')

git_environment() {
  # Nobody's GIT_ variables but those that say whom TLS trusts.
  for name in $(env | sed -n 's/^\(GIT_[A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in GIT_SSL_* | GIT_PROXY_SSL_*) ;; *) unset "$name" ;; esac
  done
  unset SSH_ASKPASS
  token=${SWITCHYARD_TOKEN-}
  unset SWITCHYARD_TOKEN
  # No program from the home folder, where commands may have left a "git" of their own.
  path=
  old_ifs=$IFS IFS=:
  for folder in $PATH /usr/local/bin /usr/bin /bin; do
    case $folder in "$HOME" | "$HOME"/*) ;; /*) path=$path:$folder ;; esac
  done
  IFS=$old_ifs
  PATH=${path#:}
  export PATH LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_SYSTEM=/dev/null GIT_CONFIG_GLOBAL=/dev/null
  export GIT_ATTR_NOSYSTEM=1 XDG_CONFIG_HOME=/dev/null GIT_DIR="$private" GIT_INDEX_FILE="$state/index"
}

# Every call of git goes through here. HOME is no folder: no ~/.gitconfig of an old git, no ~/.netrc.
git_() { HOME=/dev/null git "$@"; }

# Git with the work tree, in it.
git_in_tree() { (cd "$repository" && GIT_WORK_TREE=$repository git_ "$@"); }

# The private folder's configuration is written anew each time, and what could redirect it is removed.
git_config() {
  rm -rf "$private/config" "$private/config.worktree" "$private/commondir" "$private/hooks" "$private/info" \
    "$private/objects/info/alternates" "$private/objects/info/http-alternates"
  excludes=$repository/.git/info/exclude
  [ -f "$excludes" ] || excludes=/dev/null
  cat >"$private/config" <<END || fail disk ''
[core]
  repositoryformatversion = 0
  filemode = true
  bare = false
  hooksPath = /dev/null
  fsmonitor = false
  attributesFile = /dev/null
  excludesFile = "$excludes"
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
[protocol "https"]
  allow = always
[protocol "http"]
  allow = always
[push]
  recurseSubmodules = no
  gpgSign = false
END
}

# One call of git that talks to the host at $url. The token is in the environment of this call only; the helper hands it to this
# host and no other. Not in the work tree, so that nothing of it is read while the token is near.
git_remote() {
  host=${url#*://}
  host=${url%%://*}://${host%%/*}
  # shellcheck disable=SC2016 # the helper's shell expands it
  helper='!f() { test "$1" = get && printf "username=%s\npassword=%s\n" "$SWITCHYARD_USERNAME" "$SWITCHYARD_TOKEN"; }; f'
  (cd "$state" && SWITCHYARD_TOKEN=$token git_ -c "credential.$host.helper=$helper" "$@")
}

# One git operation at a time, also when an earlier call is still at work that nobody waits for any more.
lock() {
  born $$
  waited=0
  until ln -s "$$:$start" "$state/lock" 2>/dev/null; do
    owner=$(readlink "$state/lock") || {
      [ -w "$state" ] || fail no-state "$state"
      # Not a lock but something of the agent's.
      [ ! -e "$state/lock" ] || [ -L "$state/lock" ] || rm -rf "$state/lock"
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
  trap 'rm -f "$state/lock"' EXIT
  trap 'exit 143' HUP INT TERM
  rm -f "$private"/*.lock "$state"/*.lock "$state"/lock.*
}

# clone URL SHA BRANCH REF HEAD AHEAD: REF is "-" to fetch the sha alone, HEAD is "-" unless a checkpoint is restored.
clone() {
  url=$1 sha=$2 branch=$3 ref=$4 head=$5 ahead=$6
  git_environment
  lock
  rm -rf "$repository" "$private" "$state/index" "$state/index.head" "$state/attempt"
  if [ -e "$repository" ]; then
    # Folders without rights can't be emptied.
    chmod -R u+rwX "$repository"
    rm -rf "$repository"
    [ ! -e "$repository" ] || fail not-empty "$(rm -rf "$repository" 2>&1)"
  fi
  git_folder "$private" "$branch" || fail disk ''
  mkdir "$repository" || fail disk ''
  git_config
  depth=1
  [ "$head" = - ] || depth=$((ahead + 2))
  set -- fetch -q --no-tags --depth "$depth" "$url"
  output=$(git_remote "$@" "$sha" 2>&1) || case $output in
    *'not our ref'* | *'unadvertised object'* | *'does not allow request'*)
      [ "$ref" != - ] || fail git "$output"
      output=$(git_remote "$@" "$ref" 2>&1) || fail git "$output"
      [ "$(git_ rev-parse FETCH_HEAD)" = "$sha" ] || fail moved "$ref"
      ;;
    *) fail git "$output" ;;
  esac
  base=$sha
  if [ "$head" = - ]; then head=$sha; else
    git_ cat-file -e "$head^{commit}" || fail git "fatal: remote error: upload-pack: not our ref $head"
    base=$(git_ rev-parse -q --verify "$head~$ahead^{commit}") || base=$head
  fi
  output=$(git_in_tree read-tree -u --reset "$sha" 2>&1) || fail git "$output"
  agent_git
  printf '%s\n' "$base" >"$state/base" && printf '%s\n' "$head" >"$state/head" && printf '%s\n' "$head" >"$state/index.head" || fail disk ''
  begin
  finish
}

# git_folder PATH BRANCH: an empty git folder. Not by "git init", whose formats are the installed git's choice: agent_head
# reads these files itself.
git_folder() {
  mkdir -p "$1/objects/info" "$1/objects/pack" "$1/refs/heads" "$1/refs/tags" "$1/info" &&
    printf 'ref: refs/heads/%s\n' "$2" >"$1/HEAD"
}

# write_ref REF SHA, in the agent's git folder.
write_ref() { mkdir -p "$own/${1%/*}" && printf '%s\n' "$2" >"$own/$1"; }

# Makes the agent's own .git: an ordinary shallow clone. It shares the packs' bytes by hard links, so either can lose its own.
agent_git() {
  own=$repository/.git
  spec='+refs/heads/*:refs/remotes/origin/*' tracked=
  # A quote is fine in a branch's name and not in a configuration.
  case $ref in *'"'*) ;; refs/heads/*) tracked=refs/remotes/origin/${ref#refs/heads/} spec=+$ref:$tracked ;; esac
  {
    git_folder "$own" "$branch" &&
      ln "$private"/objects/pack/* "$own/objects/pack/" || cp "$private"/objects/pack/* "$own/objects/pack/"
  } || fail disk ''
  {
    { [ ! -f "$private/shallow" ] || cp "$private/shallow" "$own/shallow"; } &&
      cp "$state/index" "$own/index" &&
      printf '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n' >"$own/config" &&
      printf '[remote "origin"]\n\turl = "%s"\n\tfetch = "%s"\n' "$url" "$spec" >>"$own/config" &&
      write_ref "refs/heads/$branch" "$head" &&
      { [ -z "$tracked" ] || [ "$head" != "$sha" ] || write_ref "$tracked" "$sha"; }
  } || fail disk ''
  if [ "$head" != "$sha" ]; then
    output=$(GIT_DIR=$own GIT_INDEX_FILE=$own/index git_ read-tree -m "$head" 2>&1) || fail git "$output"
  fi
}

# is_sha TEXT
is_sha() {
  case $1 in *[!0-9a-f]*) return 1 ;; esac
  [ ${#1} -eq 40 ]
}

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
      git_ read-tree -m "$head" || return 1
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

# checkpoint URL BRANCH PARENT BASE NAME EMAIL MESSAGE: the last three as base64.
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
  push_to "$branch" "$made" "$negotiate"
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
