
# Staging: what the agent's own "git add -A" would stage, on a copy of its index. An entry that the agent did not touch stays as its index
# has it. A path that can't be staged keeps its last entry, by itself, and is told. It is never staged raw where a filter is configured,
# or was in an earlier sandbox of this job: that would publish what git-crypt keeps secret.
#   $work/agent.index  a copy of the agent's; absent when it has none that is whole
#   $work/last.index   the last one that was staged, $work/last.tree its tree and where it began
#   $work/bad          paths that could not be staged the last time, so that they hold nothing up
#   $state/filters     names of filters that were configured in earlier sandboxes

# stage: of the opened work tree. Sets `tree`. $from is where its index begins when there is no other; gitlinks that $origin does not have
# are new.
stage() {
  filters
  open_index
  [ -f "$work/bad" ] || : >"$work/bad"
  # Beside the staging, which waits for the same disk with another processor.
  within_before >"$work/pruned" 2>/dev/null
  listed='' asked=''
  if is_listed; then listed=1; else rm -f "$work/ignored"; fi
  walk_tree >/dev/null 2>&1 &
  walk=$!
  add_all || { changes_meanwhile && nap 50 && add_all; } || one_by_one
  [ ! -s "$work/unsaved" ] || keep_entries
  if as_before; then return 0; fi
  if [ -n "$listed" ]; then
    ignored >"$work/ignored.new" 2>/dev/null &
    asked=$!
  fi
  nested
  lfs_unstage
  tree=$(agent_ write-tree 2>"$work/error") || {
    full_disk $?
    # An entry names an object that the agent's folder has lost. From the last commit on, every file is read again.
    note "the agent's index names objects that are gone ($(said)); every file was read again"
    rm -f "$index"
    agent_ read-tree "$from" 2>"$work/error" && { add_all || one_by_one; }
    nested
    tree=$(agent_ write-tree 2>"$work/error") || not_saved $?
  }
  is_sha "$tree" || fail work "$tree"
  same_file "$index" "$work/last.index"
  [ -s "$work/within" ] || printf '%s\n' "$tree $from $origin" >"$work/last.tree"
}

# Whether "git add" has left what it did the last time, when nothing else was needed. Sets `tree`.
#   $work/added.index  what it left
as_before() {
  if [ -f "$work/last.tree" ] && [ ! -s "$work/unborn" ] && [ ! -s "$work/bad" ] && [ ! -s "$state/lfs.withheld" ] && [ ! -e "$at/.gitmodules" ] && cmp -s "$index" "$work/added.index"; then
    read -r tree was_from was_origin <"$work/last.tree"
    if [ "$was_from $was_origin" = "$from $origin" ] && is_sha "$tree"; then
      : >"$work/within"
      : >"$work/tips"
      return 0
    fi
  fi
  rm -f "$work/last.tree"
  same_file "$index" "$work/added.index"
  return 1
}

# same_file FILE NAME: another name for it. Git never writes into an index: it puts a new file in its place.
same_file() { ln -f "$1" "$2" 2>/dev/null || cp -p "$1" "$2" || fail disk ''; }

# Every configured filter is required to work: git would take a file raw, without a word, when an optional one fails.
filters() {
  : >"$work/filters.now"
  : >"$work/filters.gone"
  # Together with what else says how content is to be written, for state-tree.sh: a line each, with one before the first and after the last.
  rules=$newline$(agent_ config -z --get-regexp '^(filter\..*\.(clean|process)|core\.(autocrlf|attributesfile|eol|filemode|symlinks))$' 2>/dev/null | tr '\n\0' '\001\n')$newline
  case $rules in *"${newline}filter."*)
    printf '%s' "$rules" | sed -n -e "s/^filter\.\(.*\)\.clean$soh..*/\1/p" -e "s/^filter\.\(.*\)\.process$soh..*/\1/p" | sort -u >"$work/filters.now"
    while IFS= read -r name; do setting "filter.$name.required" true; done <"$work/filters.now"
    ;;
  esac
  [ ! -s "$state/filters" ] || sort -u "$state/filters" | comm -23 - "$work/filters.now" >"$work/filters.gone"
  while IFS= read -r name; do
    setting "filter.$name.clean" false
    setting "filter.$name.process" ''
    setting "filter.$name.required" true
  done <"$work/filters.gone"
  filter_settings=$settings
}

filters_off() {
  while IFS= read -r name; do
    for part in clean smudge process; do setting "filter.$name.$part" ''; done
    setting "filter.$name.required" false
  done <<END
$(cat "$work/filters.now" "$work/filters.gone")
END
}

# The copy keeps the index's time: git tells by it which entries are racy, changed in the same second as the index was written.
#   $work/agent.rules  there when files of attributes are among its entries
#   $work/agent.flags  its entries that are more than a path and what it is: unmerged (M), with a flag (lower case, S)
open_index() {
  if [ -n "$usable" ] && [ -f "$own/index" ]; then
    # The one that was looked at the last time.
    if [ -f "$work/agent.flags" ] && cmp -s "$own/index" "$work/agent.index"; then
      same_file "$work/agent.index" "$index"
      return 0
    fi
    # Other names of these files stay as they are.
    rm -f "$index" "$work/agent.index" "$work/agent.flags" "$work/last.tree" "$work/index.key"
    cp -p "$own/index" "$work/agent.index" || fail disk ''
    if whole_index "$work/agent.index" && cp -p "$work/agent.index" "$index" && agent_ ls-files -v -s >"$work/entries.all" 2>"$work/error"; then
      grep -v '^[HRCK?] ' "$work/entries.all" >"$work/agent.flags"
      rm -f "$work/agent.rules"
      ! grep -q -e "$tab\.gitattributes\$" -e '/\.gitattributes"*$' "$work/entries.all" || : >"$work/agent.rules"
      rm -f "$work/entries.all"
      return 0
    fi
    full_disk 0
    if_no_room
    rm -f "$index" "$work/agent.index" "$work/entries.all"
    note "the agent's index is damaged; the last one that was whole is taken in its place"
  fi
  rm -f "$index" "$work/agent.index" "$work/agent.flags" "$work/last.tree" "$work/index.key"
  # The last good one of ours keeps stat data, filtered ids and flags.
  if [ -f "$work/last.index" ]; then
    cp -p "$work/last.index" "$index" || fail disk ''
    return 0
  fi
  agent_ read-tree "$from" 2>"$work/error" || agent_ read-tree --empty 2>"$work/error" || not_saved $?
}

# whole_index FILE: its last 20 bytes are the hash of the rest, or zero where git was told to skip that. Git itself does not look: of a
# file that was cut it reads garbage.
whole_index() {
  size=$(($(wc -c <"$1")))
  [ "$size" -gt 32 ] || return 1
  command -v sha1sum >/dev/null || return 0
  trailer=$(tail -c 20 "$1" | od -An -v -tx1 | tr -d ' \n')
  [ "$trailer" != $no_sha ] || return 0
  [ "$trailer" = "$(head -c $((size - 20)) "$1" | sha1sum | cut -d ' ' -f 1)" ]
}

# All at once. Fails when git gave up, and then nothing was staged.
add_all() {
  set --
  while IFS= read -r quoted; do
    unquote "$quoted"
    set -- "$@" ":(top,exclude,literal)$path"
  done <"$work/bad"
  [ $# -le 100 ] || return 1
  agent_ add -A --ignore-errors --sparse -- . "$@" >/dev/null 2>"$work/error"
  code=$?
  : >"$work/unborn"
  : >"$work/refusals"
  [ $code -ne 0 ] || [ $# -gt 0 ] || [ -s "$work/error" ] || return 0
  # Before 2.34 git has no --sparse.
  [ $code -ne 129 ] || {
    agent_ add -A --ignore-errors -- . "$@" >/dev/null 2>"$work/error"
    code=$?
  }
  full_disk $code
  if [ $code -gt 1 ] || grep -q '^fatal' "$work/error"; then
    rm -f "$index.lock"
    return 1
  fi
  [ $code -eq 0 ] || cp "$work/error" "$work/refusals"
  [ -z "$*" ] || again
  sed -n "s/^warning: could not open directory '\(.*\)': \(.*\)\$/\1${tab}the folder can't be read: \2/p" "$work/error" | sort -u >>"$work/unsaved"
  # The rest was staged; what was not, keeps its entry.
  if [ -s "$work/refusals" ]; then left_out; fi
}

# Whether git gave up, with $code, at a file that went, or was written to, while it was read: that passes.
changes_meanwhile() { [ "$code" -eq 135 ] || grep -q -e 'unstable object source' -e 'short read while' -e 'unable to stat .*No such file' "$work/error"; }

# keep_entries: what can't be staged now is as the last save had it, also where the agent's index has never heard of it. Not where a filter stands
# before it: it may have come since, and what was saved then be the plain text.
keep_entries() {
  [ -f "$work/last.index" ] || return 0
  agent_ ls-files >"$work/entries.now" 2>/dev/null
  : >"$work/entries.below"
  (index=$work/last.index && agent_ ls-files -s) 2>/dev/null | awk -F"$tab" -v below="$work/entries.below" '
    FILENAME ~ /\/unsaved$/ { if ($1 ~ /\/$/) folder[++folders] = $1; else wanted[$1] = 1; next }
    FILENAME ~ /\/entries.now$/ { now[$0] = 1; next }
    /^160000/ || ($2 in now) { next }
    $2 in wanted { print; next }
    { for (i = 1; i <= folders; i++) if (index($2, folder[i]) == 1) print >below }' "$work/unsaved" "$work/entries.now" - >"$work/entries.last"
  {
    # One that is no file by now was replaced.
    while IFS= read -r entry; do
      unquote "${entry#*"$tab"}"
      if [ -f "$at/$path" ] || [ -L "$at/$path" ]; then printf '%s\n' "$entry"; fi
    done <"$work/entries.last"
    cat "$work/entries.below"
  } >"$work/entries.kept"
  [ -s "$work/entries.kept" ] || return 0
  cut -f 2- "$work/entries.kept" | agent_ check-attr --stdin filter 2>/dev/null | sed -n 's/: filter: uns[a-z]*$//p' >"$work/entries.free"
  awk -F"$tab" 'FILENAME ~ /\/entries.free$/ { free[$0] = 1; next } $2 in free' "$work/entries.free" "$work/entries.kept" | agent_ update-index --index-info 2>/dev/null
}

# left_out: what is still not in the index as the work tree has it. A folder is a repository within.
left_out() {
  {
    agent_ diff-files --name-only --ignore-submodules=dirty 2>/dev/null
    agent_ ls-files -o --exclude-standard 2>/dev/null
  } | sort -u >"$work/left"
  sed -n 's,/\("*\)$,\1,p' "$work/left" >>"$work/unborn"
  grep -v '/"*$' "$work/left" | refused
}

# refused: tells of each path on stdin, unless it was told already, why git refused it.
refused() {
  awk -F"$tab" '
    FILENAME ~ /\/unsaved$/ { told[$1] = 1; next }
    FILENAME ~ /\/refusals$/ {
      if (sub(/^error: invalid path \047/, "") && sub(/\047$/, "")) { why[$0] = names = "git can\047t stage it: it allows no such name" }
      else if (sub(/^error: unable to index file \047/, "") && sub(/\047$/, "")) why[$0] = "it can\047t be read"
      else if (sub(/^error: /, "") && sub(/: can only add regular files.*/, "")) why[$0] = "it is neither a file nor a link"
      next
    }
    !($0 in told) { printf "%s\t%s\n", $0, (($0 in why) ? why[$0] : names ? names : "git can\047t stage it") }' "$work/unsaved" "$work/refusals" - >"$work/refused"
  cat "$work/refused" >>"$work/unsaved"
}

# update FILE: stages its quoted lines, all or none of them, but for names that git allows nobody.
update() {
  agent_ update-index --add --remove --replace --stdin <"$1" >/dev/null 2>"$work/error" || return
  sed -n "s/^Ignoring path \(.*\)/error: invalid path '\1'/p" "$work/error" >>"$work/refusals"
}

# The paths that failed the last time, one by one.
again() {
  cp "$work/error" "$work/error.add"
  mv "$work/bad" "$work/again"
  : >"$work/bad"
  whole_limit=$limit limit=$short_limit spent=0
  halve "$work/again"
  limit=$whole_limit
  mv "$work/error.add" "$work/error"
}

# Path by path, when something makes git give up: a filter, an encoding, a hang.
one_by_one() {
  : >"$work/bad"
  : >"$work/refusals"
  # Racy entries are compared by content whenever an index is written, which runs their filters, and one that fails there stops every
  # write. Written once without filters, a second later, no entry is racy.
  filters_off
  sleep 1
  agent_ update-index --force-write-index 2>/dev/null || agent_ update-index -q --refresh >/dev/null 2>&1
  rm -f "$index.lock"
  {
    agent_ diff-files --name-only --ignore-submodules=dirty 2>/dev/null
    agent_ ls-files -o --exclude-standard 2>/dev/null
  } | sort -u >"$work/list"
  settings=$filter_settings
  # A folder is a repository within.
  sed -n 's,/\("*\)$,\1,p' "$work/list" >"$work/unborn"
  grep -v '/"*$' "$work/list" >"$work/files"
  whole_limit=$limit limit=$short_limit spent=0
  halve "$work/files"
  limit=$whole_limit
  if [ -s "$work/refusals" ]; then left_out; fi
}

# halve FILE: stages its quoted lines; all or nothing, so the half of them when that fails.
halve() {
  lines=$(($(wc -l <"$1")))
  if [ "$lines" -eq 0 ]; then
    rm -f "$1"
    return
  fi
  if [ "$spent" -ge $((whole_limit / 2)) ]; then
    sed "s/\$/${tab}there was no time left to stage it/" "$1" >>"$work/unsaved"
    rm -f "$1"
    return
  fi
  for _ in 1 2 3; do
    began=$(date +%s)
    if update "$1"; then
      rm -f "$1"
      return
    fi
    code=$?
    full_disk $code
    rm -f "$index.lock"
    spent=$((spent + $(date +%s) - began))
    [ "$lines" -eq 1 ] && [ "$spent" -lt $((whole_limit / 8)) ] && changes_meanwhile || break
    nap 50
  done
  if [ "$lines" -eq 1 ]; then
    reason=$(grep -e '^error' -e '^fatal' "$work/error" | head -n 1 | sed 's/^[a-z]*: //' | cut -c 1-160)
    reason="git can't stage it: ${reason:-$(said)}"
    ! changes_meanwhile || reason='it was written to each time that it was read'
    case $code in 124 | 137) reason="git can't stage it: its filter does not end" ;; esac
    unsaved "$(cat "$1")" "$reason"
    cat "$1" >>"$work/bad"
    rm -f "$1"
    return
  fi
  sed "1,$((lines / 2))d" "$1" >"${1}b" && sed -n "1,$((lines / 2))p" "$1" >"${1}a" || fail disk ''
  rm -f "$1"
  halve "${1}a"
  halve "${1}b"
}

# Repositories within that are no submodules: their files are staged as files. A gitlink would point to what nobody can fetch. Whatever they
# and linked worktrees hold beside that, goes into the state; see state-within.sh.
#   $work/within  lines of KIND and quoted path, for the state
nested() {
  : >"$work/within"
  : >"$work/tips"
  [ -n "$usable" ] || return 0
  submodules
  round=1
  while [ "$round" -le 5 ]; do
    agent_ diff-index --cached --raw --no-abbrev --no-renames "$origin" 2>/dev/null | sed -n 's/^:[0-7]* 160000 //p' >"$work/links"
    if [ -s "$work/unborn" ]; then sed "s/^/$no_sha $no_sha A$tab/" "$work/unborn" >>"$work/links"; fi
    : >"$work/unborn"
    [ -s "$work/links" ] || break
    found=
    while IFS= read -r link; do
      before=${link%% *} link=${link#* }
      sha=${link%% *} quoted=${link#*"$tab"}
      unquote "$quoted"
      link_of "$before" "$sha"
    done <"$work/links"
    [ -n "$found" ] || break
    round=$((round + 1))
  done
}

# link_of BEFORE SHA: what becomes of the gitlink at $path. Sets `found` when files were staged in its place.
link_of() {
  [ -e "$at/$path/.git" ] || return 0
  if grep -qxF -e "$quoted" "$work/submodules"; then
    [ "$2" != "$1" ] || return 0
    # Others can fetch it when it came from elsewhere.
    elsewhere=$(within_ for-each-ref --count=1 --contains "$2" --format='%(refname)' refs/remotes refs/tags 2>/dev/null) && [ -z "$elsewhere" ] || return 0
    # What the agent has committed is its history; else the pointer stays as it is there.
    committed=$(agent_ rev-parse -q --verify "$from:$path" 2>/dev/null) || committed=$no_sha
    [ "$committed" != "$2" ] || return 0
    restage_link "$committed"
    unsaved "$quoted" "the submodule's commit $2 is in no repository that others can fetch from, so its pointer stays as it was"
    return 0
  fi
  if grep -qxF -e "worktree $quoted" -e "repository $quoted" "$work/within"; then return 0; fi
  if [ -f "$at/$path/.git" ] && case $(cat "$at/$path/.git") in "gitdir: $common/worktrees/"*) true ;; *) false ;; esac; then
    printf 'worktree %s\n' "$quoted" >>"$work/within"
    note "$path is a linked worktree: its commits are kept beside this branch, and no pointer to it is saved"
    restage_link "$no_sha"
    tracked_before
    return 0
  fi
  printf 'repository %s\n' "$quoted" >>"$work/within"
  if [ "$nested_as" = gitlink ]; then
    [ "$2" != $no_sha ] || unsaved "$quoted" 'it is a repository without a commit, to which no gitlink can point'
    return 0
  fi
  restage_link "$no_sha"
  tracked_before
  within_ ls-files -c -o --exclude-standard --exclude-from="$(outer_ignore)" 2>/dev/null >"$work/within.list" || {
    unsaved "$quoted" 'its files could not be listed: git takes it for no repository'
    return 0
  }
  below "$quoted" <"$work/within.list" >"$work/within.paths"
  sed -n 's,/\("*\)$,\1,p' "$work/within.paths" >>"$work/unborn"
  grep -v '/"*$' "$work/within.paths" >"$work/within.lines"
  : >"$work/refusals"
  update "$work/within.lines" || {
    rm -f "$index.lock"
    whole_limit=$limit limit=$short_limit spent=0
    halve "$work/within.lines"
    limit=$whole_limit
  }
  [ ! -s "$work/refusals" ] || refused_within
  found=1
  note "$path is a repository of its own and no submodule: its files are saved as files of this one"
}

# Of the files in the repository at $path, those that are there and not in the index.
refused_within() {
  agent_ ls-files -- ":(top,literal)$path/" 2>/dev/null | sort >"$work/within.staged"
  grep -v '/"*$' "$work/within.paths" | sort | comm -23 - "$work/within.staged" | head -n 1000 | while IFS= read -r inner; do
    unquote "$inner"
    if [ -e "$at/$path" ] || [ -L "$at/$path" ]; then printf '%s\n' "$inner"; fi
  done | refused
}

# The ignore rules at the top hold in there too, as they would if it were a plain folder.
outer_ignore() {
  if [ -f "$at/.gitignore" ]; then printf '%s' "$at/.gitignore"; else echo /dev/null; fi
}

# The paths of submodules, quoted; what is checked out there goes into the state.
submodules() {
  : >"$work/submodules"
  [ -f "$at/.gitmodules" ] && [ ! -L "$at/.gitmodules" ] || return 0
  agent_ config -f .gitmodules -z --get-regexp '^submodule\..*\.path$' 2>/dev/null | tr '\n\0' '\001\n' | sed "s/^[^$soh]*$soh//" >"$work/submodules.raw"
  while IFS= read -r path; do
    case $path in /* | ../* | */../* | '') continue ;; esac
    with_newlines "$path"
    quote "$path"
    printf '%s\n' "$quoted" >>"$work/submodules"
    [ ! -e "$at/$path/.git" ] || printf 'submodule %s\n' "$quoted" >>"$work/within"
  done <"$work/submodules.raw"
  # Git looks into no folder of a submodule that is not checked out.
  agent_ ls-files -s 2>/dev/null | sed -n "s/^160000 [0-9a-f]* 0$tab//p" | head -n 500 >"$work/unpopulated"
  while IFS= read -r quoted; do
    unquote "$quoted"
    [ -d "$at/$path" ] && [ ! -L "$at/$path" ] && [ ! -e "$at/$path/.git" ] && [ -n "$(find "$at/$path" ! -type d 2>/dev/null | head -n 1)" ] &&
      unsaved "$quoted" 'it is a submodule that is not checked out, and git does not look at the files in its folder'
  done <"$work/unpopulated"
  return 0
}

# restage_link SHA: the index entry at $path; none for zeroes.
restage_link() {
  mode=160000
  [ "$1" != $no_sha ] || mode=0
  printf '%s %s\t%s\n' "$mode" "$1" "$quoted" | agent_ update-index --index-info
}

# Files that were tracked at $path before a repository was made there.
tracked_before() {
  [ -f "$work/agent.index" ] || return 0
  (index=$work/agent.index && agent_ ls-files -s -- ":(top,literal)$path/") 2>/dev/null | grep -v '^160000' | agent_ update-index --index-info
}
