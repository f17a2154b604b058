
# State: what the git folder holds: refs, the stash, operations under way, configuration, and how the index differs from what is staged.

state_refs() {
  # At a ref whose object is gone it gives up.
  agent_ for-each-ref --format='%(objectname) %(objecttype) %(refname) %(symref)' >"$work/refs" 2>"$work/error" || whole_refs
  # Of remotes, where the job began is there in every sandbox, and a submodule's tell which of its commits others can fetch; a clone within has
  # no other place. The refs of a linked worktree are those of its repository. Nothing that is pushed leads to other branches than the one that HEAD is on.
  linked=1
  [ "$own" != "$common" ] || linked=
  SAVE=$work awk -v base="$base" -v kind="$within_kind" -v linked=$linked '
    { sub(/ $/, "") }
    $3 ~ /^refs\/remotes\// && kind != "submodule" && kind != "repository" { if ($1 == base) late[++lates] = $0; next }
    { all[++count] = $0 }
    END {
      for (i = 1; i <= lates; i++) all[++count] = late[i]
      for (i = 1; i <= count; i++) {
        split(all[i], part, " ")
        print part[1] >>(ENVIRON["SAVE"] "/" (part[2] == "commit" ? "commits" : "words"))
        if (linked) continue
        print "R " all[i] >>(ENVIRON["SAVE"] "/meta")
        if (part[2] == "commit" && part[3] ~ /^refs\/heads\//) print part[1], part[3] >>(ENVIRON["SAVE"] "/tips")
      }
    }' "$work/refs"
}

# git_files: the files and links of operations under way, and those that the repository's worktrees share, below $own.
git_files() {
  saved_files="$operation_files $linked_files"
  [ "$own" != "$common" ] || saved_files="$operation_files $shared_files"
  for file in $saved_files; do
    [ ! -e "$own/$file" ] && [ ! -L "$own/$file" ] || (cd "$own" && find "$file" \( -type f -o -type l \) ! -name '*.sample')
  done
}

# whole_refs: into $work/refs, those that lead to something.
whole_refs() {
  agent_ for-each-ref --format='%(objectname) %(refname) %(symref)' 2>/dev/null | sed 's/ $//' >"$work/refs.named"
  cut -d ' ' -f 1 "$work/refs.named" | agent_ cat-file --batch-check='%(objectname) %(objecttype)' 2>/dev/null >"$work/refs.types"
  # The branch that HEAD is on stands where the commit does that was taken in its place.
  paste -d ' ' "$work/refs.types" "$work/refs.named" | awk -v ref="$head_ref" -v head="$head" '
    $2 != "missing" { print $1, $2, $4, $5; next }
    $4 == ref && head != "" { print head, "commit", $4 }' | sed 's/ $//' >"$work/refs"
  paste -d ' ' "$work/refs.types" "$work/refs.named" | awk -v ref="$head_ref" '$2 == "missing" && $4 != ref { print $4 }' | head -n 5 | while IFS= read -r name; do
    note "the ref $name is not saved: the agent's git folder lacks what it names"
  done
}

# has_tables: whether refs and their logs are no files but tables.
has_tables() { [ "$own" = "$common" ] && [ -d "$common/reftable" ]; }

# state_stash: the stash's list as the file that it would be.
state_stash() {
  has_tables && agent_ log -g --no-show-signature --no-color -s --date=raw --format="%H$soh%gn <%ge>$soh%gd$soh%gs" refs/stash >"$work/stash" 2>/dev/null && [ -s "$work/stash" ] || return 0
  awk -F"$soh" -v old=$no_sha '
    { sha[NR] = $1; who[NR] = $2; when[NR] = $3; said[NR] = $4; sub(/^.*@{/, "", when[NR]); sub(/}$/, "", when[NR]) }
    END { for (i = NR; i > 0; i--) { print old, sha[i], who[i], when[i] "\t" said[i]; old = sha[i] } }' "$work/stash" >"$work/stash.log"
  cut -d "$soh" -f 1 "$work/stash" >>"$work/words"
  sha=$(git_ hash-object -w --stdin <"$work/stash.log" 2>"$work/error") || not_saved $?
  printf '100644 %s\tgit/logs/refs/stash\n' "$sha" >>"$work/entries"
}

state_operations() {
  git_files >"$work/git.files"
  [ -s "$work/git.files" ] || return 0
  # Nobody needs a thousand of them, or a large one.
  if [ "$(($(wc -l <"$work/git.files")))" -gt $most_git_files ]; then
    note 'there are more than 2,000 files of git operations under way; none of them is saved'
    return 0
  fi
  : >"$work/files"
  while IFS= read -r name; do
    if [ -L "$own/$name" ]; then
      printf '120000 %s\tgit/%s\n' "$(printf '%s' "$(readlink "$own/$name")" | git_ hash-object -w --stdin)" "$name" >>"$work/entries"
    else printf '%s\n' "$name" >>"$work/files"; fi
  done <"$work/git.files"
  [ -s "$work/files" ] || return 0
  (cd "$own" && git_ hash-object -w --no-filters --stdin-paths <"$work/files") >"$work/hashes" 2>"$work/error" || {
    full_disk $?
    note "the files of git's operations under way could not be read: $(said)"
    return 0
  }
  paste "$work/hashes" "$work/files" | while IFS="$tab" read -r sha name; do
    mode=100644
    [ ! -x "$own/$name" ] || mode=100755
    printf '%s %s\tgit/%s\n' "$mode" "$sha" "$name"
    case $name in
      info/grafts) grep -aoE '[0-9a-f]{40}' "$own/$name" >>"$work/words" ;;
      hooks/* | info/* | rr-cache/*) ;;
      *) grep -aoE '[0-9a-f]{40}' "$own/$name" >>"$work/words" ;;
    esac
  done >>"$work/entries"
}

# What may hold a credential, or says where the folder lies, stays away; so does the include that is ours, see lfs.sh.
private_keys="^(http\\.|credential\\.|url\\.(https?|ftps?)://[^/]*@|include[^$soh]*$soh(/|lfs\\.config\$)|core\\.(worktree|bare|sshcommand|askpass|fsmonitor|gitproxy|repositoryformatversion)|extensions\\.[^w]|lfs\\..*\\.access|[^$soh]*\\.[a-z0-9-]*(token|secret|password|passwd|passphrase|smtppass|apikey|extraheader)($soh|\$)|imap\\.pass$soh)"

stx=$(printf '\002')

# entries_of FILE: its entries, a line each. A user before a host may be a token, but where it is a user of ssh.
entries_of() {
  [ ! -f "$1" ] || git_ config -f "$1" -z --no-includes --list 2>/dev/null | tr '\n\0' '\001\n' | grep -viE "$private_keys" |
    sed -e "s,\(ssh://[^/@: $soh]*\)@,\1$stx,g" -e "s,://[^/ $soh]*@,://,g" -e "s,$stx,@,g"
}

# configuration LETTER FILE: the same with that letter into the state's lines, kept for the next time.
configuration() {
  [ -f "$2" ] || return 0
  cmp -s "$2" "$work/config.$1" || {
    cp -f "$2" "$work/config.$1" && entries_of "$work/config.$1" | sed "s/^/$1 /" >"$work/config.$1.lines" || fail disk ''
  }
  cat "$work/config.$1.lines" >>"$work/meta"
}

state_configuration() {
  [ "$own" != "$common" ] || configuration C "$common/config"
  configuration Q "$own/config.worktree"
  [ -n "$outermost" ] || return 0
  # By the names that these have most often, wherever they lie.
  [ ! -f "$user_file" ] || cmp -s "$user_file" "$state/began.user" || configuration 'G .gitconfig' "$user_file"
  [ ! -f "$user_folder/config" ] || cmp -s "$user_folder/config" "$state/began.folder" || configuration 'G config' "$user_folder/config"
}

# How the agent's index differs from the staged tree. It is not kept as a file, which would be large and never the same twice.
state_index() {
  if [ ! -f "$work/agent.index" ]; then
    [ -e "$own/index" ] || echo 'O' >>"$work/meta"
    return 0
  fi
  # The key is removed when the agent's index changes.
  line=
  ! first_line "$work/index.key" || [ "$line" = "$tree" ] || line=
  if [ -z "$line" ]; then
    (
      index=$work/agent.index
      agent_ diff-index --cached --raw --no-abbrev --no-renames --ita-invisible-in-index "$tree" >"$work/delta" 2>/dev/null
      : >"$work/meta.index"
      : >"$work/flags"
      [ ! -s "$work/delta" ] ||
        sed -n -e "s/^:[0-7]* [0-7]* [0-9a-f]* [0-9a-f]* [DU]$tab/D /p" -e "s/^:[0-7]* \([0-7]*\) [0-9a-f]* \([0-9a-f]*\) [AMT]$tab/I \1 \2 0$tab/p" "$work/delta" >"$work/meta.index"
      [ ! -s "$work/agent.flags" ] || sed -n 's/^M /I /p' "$work/agent.flags" >>"$work/meta.index"
      # An entry that is only intended is none to the listing above.
      if [ -s "$work/delta" ] && grep -q "D$tab" "$work/delta"; then agent_ diff-files --name-only --diff-filter=A 2>/dev/null | sed 's/^/N /' >>"$work/meta.index"; fi
      [ ! -s "$work/agent.flags" ] || {
        sed -n "s/^\([a-zS]\) [0-7]* [0-9a-f]* [0-3]$tab/\1 /p" "$work/agent.flags" >"$work/flags"
        sed 's/^/F /' "$work/flags" >>"$work/meta.index"
      }
      printf '%s\n' "$tree" >"$work/index.key"
    )
  fi
  [ -s "$work/meta.index" ] || return 0
  cat "$work/meta.index" >>"$work/meta"
  sed -n 's/^I 1[02]0[0-7]* \([0-9a-f]*\) .*/\1/p' "$work/meta.index" >>"$work/words"
  [ -s "$work/flags" ] || return 0
  : >"$work/present"
  # Of files that git does not look at, the content is what the work tree has.
  sed -n 's/^[a-zS] //p' "$work/flags" >"$work/flagged"
  while IFS= read -r quoted; do
    unquote "$quoted"
    if [ -f "$at/$path" ] || [ -L "$at/$path" ]; then
      printf '%s\n' "$quoted" >>"$work/raw"
    elif [ ! -e "$at/$path" ]; then
      printf 'A %s\n' "$quoted"
    fi
  done <"$work/flagged" >"$work/absent"
  # Those that a sparse checkout leaves out are absent by rule and need no line.
  if [ "$(agent_ config --bool core.sparseCheckout 2>/dev/null)" = true ]; then
    grep '^S' "$work/flags" | sed 's/^S /A /' | sort >"$work/sparse"
    sort "$work/absent" | comm -23 - "$work/sparse" >"$work/absent.rest"
    mv "$work/absent.rest" "$work/absent"
  fi
  cat "$work/absent" >>"$work/meta"
}

# What all of these name, so that it is there when it is needed.
state_objects() {
  [ -z "$head" ] || echo "$head" >>"$work/commits"
  [ -s "$work/words" ] || return 0
  sort -u "$work/words" | agent_ cat-file --batch-check 2>/dev/null | grep -v ' missing$' >"$work/types"
  sed -n 's/ commit .*//p' "$work/types" >>"$work/commits"
  sed -n 's/^\([0-9a-f]*\) blob .*/100644 \1\tobjects\/\1/p; s/^\([0-9a-f]*\) tree .*/040000 \1\tobjects\/\1/p' "$work/types" | grep -v '^040000' >>"$work/entries"
  sed -n 's/ tree .*//p' "$work/types" >"$work/trees"
  # A tree becomes a commit's, which can be a parent.
  while read -r sha; do
    echo "$sha" | GIT_AUTHOR_NAME=s GIT_AUTHOR_EMAIL=s GIT_COMMITTER_NAME=s GIT_COMMITTER_EMAIL=s GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000' \
      lent commit-tree "$sha" 2>/dev/null >>"$work/commits"
  done <"$work/trees"
  sed -n 's/ tag .*//p' "$work/types" >"$work/tags"
  while read -r sha; do
    while [ "$(agent_ cat-file -t "$sha" 2>/dev/null)" = tag ]; do
      agent_ cat-file tag "$sha" >"$work/tag"
      printf '100644 %s\ttags/%s\n' "$(git_ hash-object -w --stdin <"$work/tag")" "$sha" >>"$work/entries"
      sha=$(sed -n '1s/^object //p' "$work/tag")
    done
    [ "$(agent_ cat-file -t "$sha" 2>/dev/null)" != commit ] || echo "$sha" >>"$work/commits"
  done <"$work/tags"
}
