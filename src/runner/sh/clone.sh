
# clone URL SHA BRANCH REF HEAD BASE PACK LIMIT PATH...: REF is "-" to fetch the sha alone, HEAD is "-" unless a checkpoint is restored, PACK
# is "-" unless the commits were brought here by the consumer. Of a checkpoint it makes a clean checkout of the files, and puts its paths
# in place: what setup sees is what it saw the first time. The rest comes after setup, see restore.sh.
clone() {
  url=$1 sha=$2 branch=$3 ref=$4 head=$5 base=$6 pack=$7 limit=$8
  shift 8
  git_environment
  lock
  # Their supervision was lost with what Redis has lost. They would count as run, and what they have made is not in a tree that is fetched anew.
  for ran in "$state"/steps/*; do
    # What brought git here (src/runner/packages.ts) comes before it.
    case ${ran##*/} in '*' | install-packages) ;; *) fail used '' ;; esac
  done
  # What an upload that was given up left.
  for file in "$state"/upload-*; do gone "$file"; done
  rm -rf "$repository" "$private" "$state/index" "$state/attempt" "$state/head.made" "$state/save" "$state/restore" "$state/restored" "$state/filters"
  if [ -e "$repository" ]; then
    # Folders without rights can't be emptied.
    chmod -R u+rwX "$repository"
    rm -rf "$repository"
    [ ! -e "$repository" ] || fail not-empty "$(rm -rf "$repository" 2>&1)"
  fi
  git_folder "$private" "$branch" || fail disk ''
  mkdir "$repository" "$state/save" || fail disk ''
  if [ "$repository" != "$HOME/repository" ]; then
    gone "$HOME/repository"
    ln -s "$repository" "$HOME/repository"
  fi
  git_config
  take_room
  if [ "$pack" != - ]; then take_pack "$pack"; elif [ "$head" = - ]; then fetch --depth 1; else fetch_checkpoint; fi
  [ "$base" != - ] || base=$sha
  output=$(git_in_tree read-tree -u --reset "$sha" 2>&1) || {
    if_no_room
    fail git "$output"
  }
  : >"$state/cloned"
  gone "$state/began.user"
  gone "$state/began.folder"
  [ ! -f "$user_file" ] || cp "$user_file" "$state/began.user"
  [ ! -f "$user_folder/config" ] || cp "$user_folder/config" "$state/began.folder"
  agent_git
  lfs_clone "$pack"
  outermost=1
  if [ "$head" = - ]; then head=$sha; else
    printf '%s %s %s\n' "$sha" "$head" "$branch" >"$state/restore" || fail disk ''
    # A history of the agent's that does not lead back to the base is none that the host must have.
    git_ merge-base --is-ancestor "$base" "$head" || head=$base
    state_in "$sha"
    if [ -n "$found_state" ]; then
      git_ cat-file blob "$found_state:meta" | sed -n 's/^L //p' >"$state/filters"
      work=$state/save
      : >"$work/notes"
      put_paths "$found_state" "$@"
    fi
  fi
  printf '%s\n' "$base" >"$state/base" && printf '%s\n' "$head" >"$state/head" && printf '%s\n' "$head" >"$state/held" || fail disk ''
  settle_index
  kept_room
  begin
  [ ! -s "$state/lfs.notes" ] || blob notes <"$state/lfs.notes"
  finish
}

# fetch OPTION...: fetches $sha, or $ref where the host serves no commit by its sha alone.
fetch() {
  set -- fetch -q --no-tags "$@" "$url"
  output=$(git_remote "$@" "$sha" 2>&1) || case $output in
    *'not our ref'* | *'unadvertised object'* | *'does not allow request'*)
      [ "$ref" != - ] || fail git "$output"
      output=$(git_remote "$@" "$ref" 2>&1) || fail git "$output"
      [ "$(git_ rev-parse FETCH_HEAD)" = "$sha" ] || fail moved "$ref"
      ;;
    *) fail git "$output" ;;
  esac
}

# A checkpoint leads to commits at any depth, by its state too. From the base on, which is fetched first and by itself, all of them come and
# nothing else. A host that does not serve the base by its sha sends the whole history.
fetch_checkpoint() {
  git_remote fetch -q --no-tags --depth 1 "$url" "$base" >/dev/null 2>&1
  fetch
}

# settle_index: entries whose files were written in the same second as the index are compared by content whenever git looks at them. Where
# a rule says how content is to be written, files that nobody touched would then count as changed. So the index is made younger than
# they are, and only there: it can take a second.
settle_index() {
  at=$repository own=$repository/.git index=$own/index settings=$plain_settings limit=60
  if [ -z "$(git_ ls-files -- ':(glob)**/.gitattributes' | head -n 1)" ] && [ ! -s "$user_folder/attributes" ] && [ ! -s /etc/gitattributes ] &&
    ! (agent_environment && bounded "$git_program" config --get-regexp '^core\.(autocrlf|attributesfile|eol)$') >/dev/null 2>&1; then return 0; fi
  younger "$own/index"
}

# younger FILE: waits for the next second, and gives the file its time.
younger() {
  second=$(date +%s)
  while [ "$(date +%s)" = "$second" ]; do nap 100; done
  touch "$1"
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
      write_ref "refs/heads/$branch" "$sha" &&
      { [ -z "$tracked" ] || [ "$head" != - ] || write_ref "$tracked" "$sha"; }
  } || fail disk ''
  # The state of a clone in which nothing happened yet.
  {
    printf 'V 1\nH refs/heads/%s\nR %s commit refs/heads/%s\n' "$branch" "$sha" "$branch"
    [ -z "$tracked" ] || printf 'R %s commit %s\n' "$sha" "$tracked"
    printf 'C core.filemode%strue\nC core.logallrefupdates%strue\nC remote.origin.url%s%s\nC remote.origin.fetch%s%s\n' "$soh" "$soh" "$soh" "$url" "$soh" "$spec"
  } >"$state/trivial"
}
