
# clone URL SHA BRANCH REF HEAD AHEAD PACK: REF is "-" to fetch the sha alone, HEAD is "-" unless a checkpoint is restored, PACK is "-"
# unless the commits were brought here by the consumer.
clone() {
  url=$1 sha=$2 branch=$3 ref=$4 head=$5 ahead=$6 pack=$7
  git_environment
  lock
  # What an upload that was given up left.
  rm -f "$state"/upload-*
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
  if [ "$pack" = - ]; then fetch; else take_pack "$pack"; fi
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

# Fetches $sha, or $ref where the host serves no commit by its sha alone.
fetch() {
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
    output=$(GIT_DIR=$own GIT_INDEX_FILE=$own/index git_ read-tree -i -m "$head" 2>&1) || fail git "$output"
  fi
}
