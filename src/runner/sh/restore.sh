
# Restoring, after setup: what a checkpoint's state holds beside the files. It was written by a sandbox and has lain on the git host, so every
# name in it is looked at before it becomes a path.

# restore LIMIT NAMES PATH...: brings back what "clone" left over. A second time it does nothing. NAMES are the variables that the next step
# has, each as SWITCHYARD_ENV_NAME: without setup, none has said yet where the user's configuration lies.
restore() {
  limit=$1
  # shellcheck disable=SC2086 # names
  go_by $2
  shift 2
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  take_room
  git_config
  if [ ! -f "$state/restore" ]; then
    begin
    if [ -f "$state/restored" ]; then
      field restored 1
      field paths "$(cat "$state/restored")"
    else
      field restored 0
      field paths 0
    fi
    finish
  fi
  read -r sha head branch <"$state/restore"
  first_line "$state/base" && base=$line
  outermost=1 short_limit=$((limit / 6 > 2 ? limit / 6 : 2)) paths_put=0
  open_agent "$repository" "$state/save"
  borrow='' index=$own/index
  if [ -z "$usable" ]; then
    note 'setup has left no git repository, so that of the checkpoint is not brought back'
  else
    filters
    state_in "$sha"
    if [ -n "$found_state" ]; then
      restore_state "$found_state" "$sha"
    else
      restore_head "refs/heads/$branch" "$head"
      agent_ read-tree -i -m "$head" 2>"$work/error" || note "the index is not as it was: $(said)"
    fi
  fi
  [ -z "$found_state" ] || put_paths "$found_state" "$@"
  kept_room
  printf '%s\n' "$paths_put" >"$state/restored" && mv -f "$state/restore" "$state/restore.done" || fail disk ''
  begin
  field restored 1
  field paths "$paths_put"
  head -n 50 "$work/notes" | cut -c 1-1000 | blob notes
  finish
}

# restore_head REF SHA: HEAD is that branch again, at that commit.
restore_head() {
  agent_ symbolic-ref HEAD "$1" 2>"$work/error" && agent_ update-ref "$1" "$2" 2>"$work/error" || note "HEAD is not as it was: $(said)"
}

# lines LETTER: of the state, without their letter.
lines() { sed -n "s/^$1 //p" "$work/meta"; }

# is_inside PATH: whether it stays below the folder that it is relative to, by its name.
is_inside() {
  case /$1/ in */../* | */.git/* | //*) return 1 ;; esac
}

# restore_state STATE CHECKPOINT: of the opened repository, whose own index is $index.
restore_state() {
  restored_from=$1 checkpoint_tree=$(git_ rev-parse "$2^{tree}")
  git_ cat-file blob "$1:meta" >"$work/meta" 2>/dev/null || {
    if_no_room
    note "the checkpoint's state could not be read, so only its files are brought back"
    return
  }
  grep -qx 'V 1' "$work/meta" || {
    note 'the checkpoint was made by a newer release, so only its files are brought back'
    return
  }
  export GIT_COMMITTER_NAME=switchyard GIT_COMMITTER_EMAIL=switchyard@localhost
  setting core.logAllRefUpdates false
  [ "$own" != "$common" ] || restore_refs
  lines H >"$work/head.line"
  first_line "$work/head.line"
  case $line in
    refs/*) agent_ symbolic-ref HEAD "$line" 2>"$work/error" || note "HEAD is not as it was: $(said)" ;;
    ?*) agent_ update-ref --no-deref HEAD "$line" 2>"$work/error" || note "HEAD is not as it was: $(said)" ;;
  esac
  restore_operations
  restore_stash
  restore_configuration
  restore_index
  restore_work_tree
  [ -z "$outermost" ] || settle_index
  restore_index_difference
  restore_within
}

# All of them at once, each by itself if that fails: the refs are those that there were, and no others.
restore_refs() {
  git_ ls-tree --name-only "$restored_from" tags/ | while read -r name; do
    git_ cat-file blob "$restored_from:$name" | agent_ hash-object -t tag -w --stdin >/dev/null
  done
  lines R | grep -E '^[0-9a-f]{40} (commit|tag|blob|tree) refs/[^ ]*( refs/[^ ]*)?$' >"$work/wanted"
  awk 'NF == 3 { print $1, $3 }' "$work/wanted" | sort >"$work/wanted.refs"
  agent_ for-each-ref --format='%(objectname) %(refname)' 2>/dev/null | grep -v ' refs/remotes/' | sort >"$work/present.refs"
  {
    cut -d ' ' -f 2 "$work/present.refs" | sort >"$work/names.present"
    cut -d ' ' -f 2 "$work/wanted.refs" | sort >"$work/names.wanted"
    comm -23 "$work/names.present" "$work/names.wanted" | sed 's/^/delete /'
  } >"$work/updates"
  # The branch that HEAD is on may go.
  agent_ update-ref --no-deref HEAD "$(git_ rev-parse "$sha^{commit}")" 2>/dev/null
  agent_ update-ref --no-deref --stdin <"$work/updates" 2>"$work/error" || note "refs that setup made are still there: $(said)"
  comm -13 "$work/present.refs" "$work/wanted.refs" | awk '{ print "update", $2, $1 }' >"$work/updates"
  agent_ update-ref --no-deref --stdin <"$work/updates" 2>"$work/error" || while read -r _ name id; do
    agent_ update-ref --no-deref "$name" "$id" 2>"$work/error" || note "the ref $name is not as it was: $(said)"
  done <"$work/updates"
  awk 'NF == 4 { print $3, $4 }' "$work/wanted" | while read -r name target; do agent_ symbolic-ref "$name" "$target" 2>/dev/null; done
}

restore_operations() {
  # What setup made and the agent has removed, or has replaced by a link, is not there any more.
  git_files >"$work/git.files"
  if [ "$(($(wc -l <"$work/git.files")))" -le $most_git_files ]; then
    while IFS= read -r file; do rm -f "$own/$file"; done <"$work/git.files"
  fi
  for file in $operation_files; do rm -rf "${own:?}/$file"; done
  git_ ls-tree -r "$restored_from" git/ | while IFS="$tab" read -r entry name; do
    file=${name#git/}
    case $file in *[!A-Za-z0-9._/-]* | *..* | /*) continue ;; esac
    known_file=
    for each in $saved_files; do
      case $file in "$each" | "$each"/*) known_file=1 ;; esac
    done
    [ -n "$known_file" ] || continue
    folder=$own/$file
    folder=${folder%/*}
    mkdir -p "$folder" || continue
    case $entry in
      120000*)
        rm -rf "${own:?}/$file"
        ln -s "$(git_ cat-file blob "$restored_from:$name")" "$own/$file"
        continue
        ;;
    esac
    [ ! -L "$own/$file" ] || continue
    git_ cat-file blob "$restored_from:$name" >"$own/$file" || {
      if_no_room
      continue
    }
    case $entry in 100755*) chmod +x "$own/$file" ;; esac
  done
}

# restore_stash: where the stash's list is no file, from the one that it was saved as.
restore_stash() {
  has_tables && [ -f "$own/logs/refs/stash" ] || return 0
  agent_ update-ref -d refs/stash 2>/dev/null
  while read -r _ sha line; do
    agent_ stash store -q -m "${line#*"$tab"}" "$sha" 2>"$work/error" || note "a stash is not as it was: $(said)"
  done <"$own/logs/refs/stash"
  rm -rf "$own/logs/refs/stash"
}

restore_configuration() {
  [ "$own" != "$common" ] || lines C | restore_entries "$common/config"
  lines Q | restore_entries "$own/config.worktree"
  [ -n "$outermost" ] || return 0
  for name in .gitconfig config; do
    lines G | sed -n "s,^$name ,,p" >"$work/global"
    [ -s "$work/global" ] || continue
    file=$user_file
    if [ "$name" = config ]; then file=$user_folder/config; fi
    # Git would put a file in place of whatever else it is.
    [ ! -e "$file" ] || [ -f "$file" ] || continue
    mkdir -p "${file%/*}"
    restore_entries "$file" <"$work/global"
  done
}

# restore_entries FILE: the entries on stdin are those of the file, but for what is never saved of it.
restore_entries() {
  grep -viE "$private_keys" >"$work/entries.wanted"
  entries_of "$1" >"$work/entries.present"
  cmp -s "$work/entries.wanted" "$work/entries.present" && return
  sort "$work/entries.wanted" >"$work/entries.a"
  sort "$work/entries.present" >"$work/entries.b"
  # Every key of which any entry differs, whole.
  { comm -23 "$work/entries.a" "$work/entries.b"; comm -13 "$work/entries.a" "$work/entries.b"; } | sed "s/$soh.*//" | sort -u >"$work/keys"
  while IFS= read -r key; do
    case $key in
      include.path) git_ config -f "$1" --unset-all "$key" '!^lfs\.config$' ;;
      *) git_ config -f "$1" --unset-all "$key" ;;
    esac 2>/dev/null
  done <"$work/keys"
  while IFS= read -r entry; do
    key=${entry%%"$soh"*} value=${entry#*"$soh"}
    grep -qxF -e "$key" "$work/keys" || continue
    [ "$key" != "$entry" ] || value=true
    git_ config -f "$1" --add "$key" "$(printf '%s' "$value" | tr '\001' '\n')" 2>"$work/error" || note "the configuration \"$key\" is not as it was: $(said)"
  done <"$work/entries.wanted"
}

# The index is the staged tree's, with the flags that it had.
restore_index() {
  agent_ read-tree -i -m "$checkpoint_tree" 2>"$work/error" || agent_ read-tree --reset -i "$checkpoint_tree" 2>"$work/error" || {
    note "the index is not as it was: $(said)"
    return
  }
  lines F >"$work/flags"
  sparse=$(agent_ config --bool core.sparseCheckout 2>/dev/null)
  [ -s "$work/flags" ] || [ "$sparse" = true ] || return 0
  sed -n 's/^[Ss] //p' "$work/flags" | sort >"$work/skipped"
  agent_ ls-files -v | sed -n 's/^[Ss] //p' | sort >"$work/skipped.now"
  comm -13 "$work/skipped" "$work/skipped.now" | agent_ update-index --no-skip-worktree --stdin
  # One that is not there yet would keep all after it from theirs.
  agent_ ls-files | sort -u >"$work/names.staged"
  comm -23 "$work/skipped" "$work/skipped.now" | comm -12 - "$work/names.staged" >"$work/skip"
  agent_ update-index --skip-worktree --stdin <"$work/skip"
  sed -n 's/^[a-z] //p' "$work/flags" | sort | comm -12 - "$work/names.staged" | agent_ update-index --assume-unchanged --stdin
  [ "$sparse" = true ] || return 0
  # What the agent's rules leave out goes from the work tree, but for what it has there all the same.
  agent_ sparse-checkout reapply 2>/dev/null >&2
  agent_ ls-files -v | sed -n 's/^[Ss] //p' | sort | comm -13 "$work/skipped" - | agent_ update-index --no-skip-worktree --stdin
}

restore_work_tree() {
  # The checkout was raw. What a filter that is there again writes otherwise, is written once more.
  lines L | comm -12 - "$work/filters.now" | grep -vx lfs >"$work/filters.back"
  if [ -s "$work/filters.back" ]; then
    agent_ ls-files -z | agent_ check-attr -z --stdin filter 2>/dev/null | tr '\n\0' '\001\n' | awk 'NR % 3 == 1 { path = $0 } NR % 3 == 0 { print $0 "\t" path }' |
      grep -v "$soh" >"$work/filtered"
    while IFS= read -r name; do sed -n "s,^$(printf '%s' "$name" | sed 's/[][\.*^$,]/\\&/g')$tab,,p" "$work/filtered"; done <"$work/filters.back" |
      while IFS= read -r path; do [ ! -f "$at/$path" ] || rm -f "$at/$path"; done
  fi
  # What setup changed is the checkpoint's again.
  agent_ diff-files --name-only --ignore-submodules=all 2>/dev/null >"$work/changed"
  # Rules on line ends and the like that are not in the tree were not there when it was written. What a filter writes is left alone.
  if [ -s "$common/info/attributes" ] || [ -s "$user_folder/attributes" ] || agent_ config --get-regexp '^core\.(autocrlf|attributesfile|eol)$' >/dev/null 2>&1; then
    sed 's/^[a-zA-Z] //' "$work/flags" >"$work/flagged"
    agent_ ls-files | agent_ check-attr --stdin filter 2>/dev/null | sed -n 's/: filter: uns[a-z]*$//p' >"$work/unfiltered"
    # As they are listed they have no times, so each is written.
    agent_ ls-files -s | awk -F"$tab" 'FILENAME ~ /flagged$/ { flagged[$0] = 1; next } FILENAME != "-" { free[$0] = 1; next } /^100/ && $2 in free && !($2 in flagged)' \
      "$work/flagged" "$work/unfiltered" - >"$work/rewritten"
    agent_ update-index --index-info <"$work/rewritten" 2>/dev/null && cut -f 2 "$work/rewritten" >>"$work/changed"
  fi
  if [ -s "$work/changed" ]; then
    # The agent's git-lfs has no token to ask the host with: it writes what is here already, after this.
    export GIT_LFS_SKIP_SMUDGE=1
    agent_ checkout-index -f -u -q --stdin <"$work/changed" 2>"$work/error" || {
      full_disk $?
      rm -f "$index.lock"
      settings_before=$settings
      filters_off
      note "a filter failed, so files that it is for are as git has them: $(said)"
      agent_ checkout-index -f -u -q --stdin <"$work/changed" 2>"$work/error" || full_disk $?
      settings=$settings_before
    }
    if [ -d "$common/lfs/objects" ] && command -v git-lfs >/dev/null; then agent_ lfs checkout >/dev/null 2>&1; fi
    unset GIT_LFS_SKIP_SMUDGE
  fi
  number=0 links=$(agent_ config --type=bool --default=true core.symlinks 2>/dev/null)
  lines W >"$work/present"
  sed 's/^[a-zA-Z] //' "$work/flags" >"$work/flagged.raw"
  while IFS= read -r line; do
    number=$((number + 1)) mode=${line%% *} quoted=${line#* }
    unquote "$quoted"
    is_inside "$path" || continue
    case $path in */*) mkdir -p "$at/${path%/*}" ;; esac
    if [ "$mode" = 120000 ]; then
      [ -d "$at/$path" ] && [ ! -L "$at/$path" ] && continue
      target=$(git_ cat-file blob "$restored_from:raw/$number" && echo .) && rm -f "$at/$path" && ln -s "${target%.}" "$at/$path"
      continue
    fi
    # A file in place of a link, where git makes none or does not look.
    [ ! -L "$at/$path" ] || [ "$links" != true ] || grep -qxF -e "$quoted" "$work/flagged.raw" || continue
    [ ! -L "$at/$path" ] || rm -f "$at/$path"
    git_ cat-file blob "$restored_from:raw/$number" >"$at/$path" 2>/dev/null || {
      if_no_room
      note "$path is not as it was: it can't be written"
    }
    if [ "$mode" = 100755 ]; then chmod +x "$at/$path"; elif [ -x "$at/$path" ]; then chmod a-x "$at/$path"; fi
  done <"$work/present"
  # Git takes a file of another size for changed without a look at it, unless its entry has no size. Entries with a flag are not looked at.
  sed 's/^[0-7]* //' "$work/present" >"$work/present.names"
  [ ! -s "$work/present.names" ] || agent_ -c core.quotePath=false ls-files -s |
    awk -F"$tab" 'FILENAME ~ /flags$/ { sub(/^[a-zA-Z] /, ""); flagged[$0] = 1; next } FILENAME != "-" { present[$0] = 1; next } /^100/ && $2 in present && !($2 in flagged)' \
      "$work/flags" "$work/present.names" - | agent_ update-index --index-info 2>/dev/null
  lines A >"$work/absent"
  while IFS= read -r quoted; do
    unquote "$quoted"
    ! is_inside "$path" || [ -d "$at/$path" ] || rm -f "$at/$path"
  done <"$work/absent"
  # shellcheck disable=SC2016 # the inner shell expands it
  lines E | grep -v -e '\.\.' -e '^/' | tr '\n\001' '\0\n' | (cd "$at" && xargs -0 sh -c '[ $# -eq 0 ] || mkdir -p -- "$@"' sh)
  lines M | grep -v -e '\.\./' -e '^[0-7]* /' | sort -r -k 2 >"$work/modes"
  # Where git does not look at modes, only those lines say which files are programs.
  if [ "$(agent_ config --bool core.fileMode 2>/dev/null)" = false ]; then
    agent_ ls-files -s | sed -n "s/^100755 [0-9a-f]* 0$tab//p" | while IFS= read -r quoted; do
      unquote "$quoted"
      is_inside "$path" && [ -f "$at/$path" ] && [ ! -L "$at/$path" ] && chmod a-x "$at/$path"
    done
  fi
  # Files first, many at a time; then folders, the deepest first, because they may close what lies in them.
  cut -d ' ' -f 1 "$work/modes" | sort -u | while read -r mode; do
    # shellcheck disable=SC2016 # the inner shell expands it
    sed -n "s/^$mode //p" "$work/modes" | tr '\n\001' '\0\n' |
      (cd "$at" && xargs -0 sh -c 'mode=$1; shift; for file do [ ! -f "$file" ] || [ -L "$file" ] || printf "%s\0" "./$file"; done |
        xargs -0 sh -c "[ \$# -eq 0 ] || chmod $mode -- \"\$@\"" sh' sh "$mode")
  done
  while IFS= read -r line; do
    mode=${line%% *}
    with_newlines "${line#* }"
    [ ! -d "$at/$path" ] || [ -L "$at/$path" ] || chmod "$mode" "$at/$path"
  done <"$work/modes"
}

# Staged against unstaged.
restore_index_difference() {
  ! grep -qx O "$work/meta" || rm -f "$index"
  lines D | sed "s/^/0 $no_sha$tab/" | agent_ update-index --index-info 2>/dev/null
  lines I | agent_ update-index --index-info 2>"$work/error" || note "what was staged is not as it was: $(said)"
  if [ -s "$work/flags" ]; then
    lines I | sed "s/^[^$tab]*$tab//" | sort -u >"$work/names.staged"
    sed -n 's/^[Ss] //p' "$work/flags" | sort | comm -12 - "$work/names.staged" | agent_ update-index --skip-worktree --stdin
    sed -n 's/^[a-z] //p' "$work/flags" | sort | comm -12 - "$work/names.staged" | agent_ update-index --assume-unchanged --stdin
  fi
  lines N >"$work/intended"
  [ ! -s "$work/intended" ] || (export GIT_LITERAL_PATHSPECS=1 && agent_ add -N -f --pathspec-from-file="$work/intended" 2>/dev/null)
}

restore_within() {
  lines K >"$work/within.lines"
  number=0
  while IFS= read -r line; do
    number=$((number + 1)) made=${line%% *} line=${line#* }
    kind=${line%% *} quoted=${line#* }
    is_sha "$made" && git_ cat-file -e "$made^{commit}" || continue
    unquote "$quoted"
    is_inside "${path#../}" || continue
    case $path in
      '~/'*) place=$HOME/${path#'~/'} ;;
      '../'*) place=${repository%/*}/${path#../} ;;
      *) place=$at/$path ;;
    esac
    case $path in
      '~/'* | '../'*)
        [ "$kind" = worktree ] || continue
        case $place/ in "$state"/* | "$repository"/*) continue ;; esac
        ;;
    esac
    failed_within "$(restore_one)"
    [ ! -s "$work/$number/notes" ] || sed "s,^,$(printf '%s' "$path" | tr '\n' ' ' | sed 's/[\\,&]/\\&/g'): ," "$work/$number/notes" >>"$work/notes"
  done <"$work/within.lines"
}

# restore_one: the repository, worktree or submodule at $place, in a shell of its own.
restore_one() {
  state_in "$made"
  [ -n "$found_state" ] || return
  outermost='' inner_work=$work/$number
  git_ cat-file blob "$found_state:meta" >"$work/inner"
  mkdir -p "$inner_work"
  # What setup has made there becomes the checkpoint's, as the outermost repository does.
  taken='' around=$common
  [ ! -e "$place/.git" ] || taken=1
  case $taken$kind in
    1worktree | 1submodule | 1repository) ;;
    worktree)
      line=$(sed -n 's/^H //p' "$work/inner" | head -n 1)
      if agent_ rev-parse -q --verify "$line^{commit}" >/dev/null 2>&1; then
        case $line in
          refs/heads/*) agent_ worktree add -f --no-checkout "$place" "${line#refs/heads/}" ;;
          *) agent_ worktree add -f --no-checkout --detach "$place" "$line" ;;
        esac
      else agent_ worktree add -f --no-checkout --detach "$place" HEAD; fi >/dev/null 2>"$work/error" || {
        note "the linked worktree $path could not be made again: $(said)"
        return
      }
      ;;
    submodule)
      folder=$(sed -n 's/^T //p' "$work/inner" | head -n 1)
      case $folder in modules/* | '') ;; *) return ;; esac
      is_inside "${folder:-.}" && mkdir -p "$place" || return
      if [ -z "$folder" ]; then new_repository "$place/.git" || return; else
        new_repository "$own/$folder" || return
        if [ "$own" = "$at/.git" ]; then
          up=$(printf '%s/' "$path" | tr '\n' x | sed 's,[^/][^/]*/,../,g')
          printf 'gitdir: %s.git/%s\n' "$up" "$folder" >"$place/.git"
          up=$(printf '.git/%s/' "$folder" | sed 's,[^/][^/]*/,../,g')
          git_ config -f "$own/$folder/config" core.worktree "$up$path"
        else
          # Where the one lies to the other is not said by their names.
          printf 'gitdir: %s\n' "$own/$folder" >"$place/.git"
          git_ config -f "$own/$folder/config" core.worktree "$place"
        fi
      fi
      ;;
    repository)
      mkdir -p "$place" && new_repository "$place/.git" || return
      ;;
    *) return ;;
  esac
  sha=$made
  open_agent "$place" "$inner_work"
  [ -n "$usable" ] || return
  borrow='' index=$own/index
  [ -z "$taken" ] || take_over || return
  filters
  restore_state "$found_state" "$made"
}

# take_over: the repository or worktree that setup made at $at gets what the checkpoint $made leads to, and loses the files that it has not.
take_over() {
  if [ "$kind" = worktree ]; then [ "$common" = "$around" ] || return; else
    [ "$own" = "$common" ] && printf '%s\n' "$made" | git_ pack-objects -q --revs "$common/objects/pack/pack" 2>"$work/error" >/dev/null || {
      full_disk $?
      return
    }
  fi
  agent_ ls-files | sort -u >"$work/names.setup"
  git_ ls-tree -r --name-only "$made" | sort >"$work/names.made"
  comm -23 "$work/names.setup" "$work/names.made" | while IFS= read -r quoted; do
    unquote "$quoted"
    is_inside "$path" && [ ! -d "$at/$path" ] || continue
    rm -f "$at/$path"
    # A checkout leaves no folder that it has emptied.
    case $path in */*) (cd "$at" && rmdir -p "./${path%/*}") 2>/dev/null ;; esac
  done
}

# new_repository FOLDER: with what the checkpoint $made leads to.
new_repository() {
  git_folder "$1" main && printf '[core]\n\trepositoryformatversion = 0\n\tbare = false\n' >"$1/config" &&
    printf '%s\n' "$made" | git_ pack-objects -q --revs "$1/objects/pack/pack" 2>"$work/error" >/dev/null || {
    full_disk $?
    if_no_room
    note "the repository $path could not be made again: $(said)"
    return 1
  }
}
