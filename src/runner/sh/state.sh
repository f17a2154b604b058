
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

# is_rule: whether the configuration has one, other than filters.
is_rule() { case $rules in *"${newline}core."[ae]*) ;; *) return 1 ;; esac }

wrote_rules() { [ -s "$work/written" ] && grep -q -e '^\.gitattributes$' -e '/\.gitattributes$' "$work/written"; }

# has_new_rules: whether there are files of attributes that the agent's index has not, whoever wrote them: a checkpoint brings them before the walk counts.
has_new_rules() { wrote_rules || { [ -s "$work/meta.index" ] && grep -q -e '^D "*\.gitattributes"*$' -e '^D .*/\.gitattributes"*$' "$work/meta.index"; }; }

# Whether a rule says how content is to be written. Then a checkout may write other bytes than those that were staged.
has_rules() {
  is_rule || [ -s "$common/info/attributes" ] || [ -s "$user_folder/attributes" ] || [ -s /etc/gitattributes ] && return
  # What is not ignored was staged.
  if first_line "$work/rules.key" && [ "${line%% *}" = "$tree" ]; then [ "$line" = "$tree 1" ]; else
    found=0
    if [ -f "$work/agent.flags" ] && [ ! -s "$work/within" ]; then
      if [ -f "$work/agent.rules" ] || has_new_rules; then found=1; fi
    elif [ -n "$(agent_ ls-files -- ':(glob)**/.gitattributes' 2>/dev/null | head -n 1)" ]; then found=1; fi
    printf '%s %s\n' "$tree" $found >"$work/rules.key"
    [ $found = 1 ]
  fi
}

# Files of which a checkout would not write what lies there: CRLF where LF is staged, a keyword that is not expanded. Of those that were
# written since the clone, as the walk has found them, or differ from where the job began. What a filter stands before is as the filter
# makes it: its plain text is not saved.
state_converted() {
  has_rules || return 0
  agent_ -c core.quotePath=false diff-index --cached --name-only --diff-filter=d "$origin" >>"$work/written" 2>/dev/null
  # A rule that came later is one for files that lie there since the clone, too.
  all=
  if is_rule || [ -s "$common/info/attributes" ] || wrote_rules; then all=1; fi
  [ -n "$all" ] || [ -s "$work/written" ] || return 0
  agent_ -c core.quotePath=false ls-files -s |
    awk -F"$tab" -v all=$all 'FILENAME != "-" { written[$0] = 1; next } (all || $2 in written) && /^100[0-7]* [0-9a-f]* 0/ { split($1, part, " "); print part[2] FS $2 }' "$work/written" - | head -n 20000 >"$work/candidates"
  [ -s "$work/candidates" ] || return 0
  cut -f 2 "$work/candidates" >"$work/names"
  (cd "$at" && git_ hash-object --no-filters --stdin-paths <"$work/names") >"$work/hashes" 2>"$work/error" || return 0
  # Four lines a path, in this order.
  agent_ check-attr --stdin eol ident filter working-tree-encoding <"$work/names" 2>/dev/null | sed 's/.*: //' | paste - - - - >"$work/rules"
  crlf=$(agent_ config core.autocrlf 2>/dev/null)$(agent_ config core.eol 2>/dev/null)
  paste "$work/hashes" "$work/candidates" "$work/rules" | awk -F"$tab" -v crlf="$crlf" '
    $6 != "unspecified" && $6 != "unset" { next }
    $1 != $2 || $4 == "crlf" || crlf ~ /true|crlf/ || $5 != "unspecified" && $5 != "unset" || $7 != "unspecified" && $7 != "unset" { print $3 }' >"$work/doubtful"
  [ -s "$work/doubtful" ] || return 0
  rm -rf "$work/written.as" && mkdir "$work/written.as" || return 0
  agent_ checkout-index -q -f --prefix="$work/written.as/" --stdin <"$work/doubtful" 2>"$work/error" || full_disk $?
  while IFS= read -r path; do
    cmp -s "$at/$path" "$work/written.as/$path" || printf '%s\n' "$path" >>"$work/raw"
  done <"$work/doubtful"
  rm -rf "$work/written.as"
}

hash_raw() { (cd "$at" && git_ hash-object -w --no-filters --stdin-paths <"$work/files") >"$work/hashes" 2>"$work/error"; }

# readable_raw: leaves out what can't be read, or has gone meanwhile.
readable_raw() {
  while IFS= read -r quoted; do
    unquote "$quoted"
    if [ -f "$at/$path" ] && [ -r "$at/$path" ]; then printf '%s\n' "$quoted"; elif [ -e "$at/$path" ]; then unsaved "$quoted" "it can't be read"; fi
  done <"$work/files" >"$work/files.read" && mv "$work/files.read" "$work/files" &&
    awk 'FILENAME ~ /\/files$/ { read[$0] = 1; next } { path = $0; sub(/^W [0-7]* /, "", path) } path in read' "$work/files" "$work/present" >"$work/present.read" &&
    mv "$work/present.read" "$work/present"
}

# The content of files that the staged tree does not say.
state_raw() {
  [ -s "$work/raw" ] || return 0
  # Links after files, whose content is read all at once.
  : >"$work/files"
  : >"$work/links.raw"
  sort -u "$work/raw" >"$work/raw.all"
  while IFS= read -r quoted; do
    unquote "$quoted"
    if [ -L "$at/$path" ]; then
      printf '%s\n' "$quoted" >>"$work/links.raw"
      continue
    fi
    printf '%s\n' "$quoted" >>"$work/files"
    mode=100644
    [ ! -x "$at/$path" ] || mode=100755
    printf 'W %s %s\n' "$mode" "$quoted" >>"$work/present"
  done <"$work/raw.all"
  hash_raw || {
    full_disk $?
    readable_raw && hash_raw
  } || {
    full_disk $?
    note "the content of files that git does not look at, or would write otherwise, could not be saved: $(said)"
    return 0
  }
  while IFS= read -r quoted; do
    unquote "$quoted"
    # The newline is readlink's own.
    target=$(readlink "$at/$path" && echo .)
    printf '%s' "${target%"$newline".}" | git_ hash-object -w --stdin >>"$work/hashes" || return 0
    printf 'W 120000 %s\n' "$quoted" >>"$work/present"
  done <"$work/links.raw"
  cat "$work/present" >>"$work/meta"
  awk '{ printf "100644 %s\traw/%d\n", $1, NR }' "$work/hashes" >>"$work/entries"
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

# within_before: the repositories within that the last save found, as far as they are still there. But for those that only the walk finds.
within_before() {
  [ -s "$work/within" ] || return 0
  sed 's/^[a-z]* //' "$work/within" | if [ -s "$work/found.within" ]; then grep -vxFf "$work/found.within"; else cat; fi | while IFS= read -r quoted; do
    unquote "$quoted"
    [ ! -e "$at/$path/.git" ] || printf '%s\n' "$quoted"
  done
}

# walk_tree: empty folders, modes that a tree can't hold, what is no file at all, and, for later, what was written since the clone. One walk,
# which leaves out what is ignored, since there may be more of that than of all the rest, and the paths in $work/pruned.
#   $work/found  lines of letter and path, with the byte 1 for a newline: E and M as in the state, w written, s special, g the folder of a .git
#   $work/ignored  the folders that are ignored. Asking git for them is a walk of its own, so those of the last save are taken first; see settle_walk
walk_tree() {
  gone "$work/found"
  [ -f "$work/ignored" ] || { ignored >"$work/ignored.new" && mv "$work/ignored.new" "$work/ignored"; }
  set -- -name .git
  while IFS= read -r quoted; do
    [ -n "$quoted" ] || continue
    unquote "$quoted"
    # "find" takes it for a pattern.
    case $path in *[][*?\\]*)
      path=$(printf '%s.' "$path" | sed 's/[][*?\\]/\\&/g')
      path=${path%.}
      ;;
    esac
    set -- "$@" -o -path "./$path"
  done <<END
$([ ! -s "$work/pruned" ] && [ ! -s "$work/ignored" ] || cat "$work/pruned" "$work/ignored")
END
  mask=$(umask) file_mode=644 program_mode=755
  case $mask in 022 | 0022) ;; *) file_mode=$(printf '%o' $((0666 & ~mask))) program_mode=$(printf '%o' $((0777 & ~mask))) ;; esac
  # Where git does not look at modes, a tree's say nothing.
  known_mode=$program_mode
  ! is_off core.filemode || known_mode=$file_mode
  # shellcheck disable=SC2016 # the inner shell expands it
  (cd "$at" && find . \( "$@" \) -prune \( ! -name .git -o ! -type d -o ! -path './*/.git' -o -exec sh -c 'for file do printf "g%s\0" "${file%/.git}"; done' sh {} + \) -o \( ! -type d -o ! -empty -o -print0 \) \
    \( -type f -o -type d -o -type l -o -exec sh -c 'for file do printf "s%s\0" "$file"; done' sh {} + \) \
    \( ! -type f -o ! -newer "$state/cloned" -o -exec sh -c 'for file do printf "w%s\0" "$file"; done' sh {} + \) \
    \( -type f ! -perm "$file_mode" ! -perm "$known_mode" -o -type d ! -perm "$program_mode" \) \
    -exec sh -c 'modes=$(stat -c %a -- "$@") && printf "%s\n" "$modes" | for file do read -r mode; printf "m%s %s\0" "$mode" "$file"; done' sh {} + 2>/dev/null) |
    tr '\n\0' '\001\n' | sed -n -e 's,^\./,E ,p' -e 's,^w\./,w ,p' -e 's,^s\./,s ,p' -e 's,^g\./,g ,p' -e 's,^m\([0-7]*\) \./\(.*\),M \1 \2,p' -e 's,^m\([0-7]*\) \.$,M \1 .,p' | sort >"$work/found.part" &&
    mv "$work/found.part" "$work/found"
}

ignored() { agent_ ls-files -o -i --exclude-standard --directory 2>/dev/null | sed -n 's,/\("*\)$,\1,p' | head -n 500; }

# is_listed: the ignored folders are known from the last save, and nothing outside of the work tree that says what is ignored was written since.
is_listed() {
  [ -f "$work/ignored" ] && [ -f "$work/found.last" ] &&
    [ -z "$(find -L "$common/info/exclude" "$common/config" "$own/config.worktree" "$user_file" "$user_folder/config" "$user_folder/ignore" /etc/gitconfig \
      -newer "$work/ignored" 2>/dev/null)" ]
}

# settle_walk: waits for the walk, and walks again when other folders are ignored than it thought. They are the same when neither it nor
# the staging has found any change.
#   $listed  the walk took the folders of the last save
#   $asked   the process that asks git anew, because the staged files have changed
settle_walk() {
  wait "$walk"
  if [ -n "$listed" ]; then
    if [ -n "$asked" ]; then wait "$asked"; elif ! cmp -s "$work/found" "$work/found.last"; then ignored >"$work/ignored.new"; else return 0; fi
    if ! cmp -s "$work/ignored.new" "$work/ignored"; then
      mv "$work/ignored.new" "$work/ignored" || fail disk ''
      walk_tree
    fi
  fi
  [ ! -f "$work/found" ] || same_file "$work/found" "$work/found.last"
}

# is_off KEY: of those that staging asked for.
is_off() {
  case $rules in *"$newline$1$soh"[Ff][Aa][Ll][Ss][Ee]"$newline"* | *"$newline$1$soh"[Nn][Oo]"$newline"* | *"$newline$1$soh"[Oo][Ff][Ff]"$newline"* | *"$newline$1${soh}0$newline"*) ;; *) return 1 ;; esac
}

# Where git makes no links, files lie in their place.
state_links() {
  is_off core.symlinks || return 0
  agent_ ls-files -s | sed -n "s/^120000 [0-9a-f]* 0$tab//p" | while IFS= read -r quoted; do
    unquote "$quoted"
    if [ -f "$at/$path" ] && [ ! -L "$at/$path" ]; then printf '%s\n' "$quoted"; fi
  done >>"$work/raw"
}

# state_folders: what the walk has found, but for what lies in repositories within.
state_folders() {
  [ -f "$work/found" ] || fail disk ''
  : >"$work/inner"
  [ ! -s "$work/within" ] || sed 's/^[a-z]* //' "$work/within" | while IFS= read -r quoted; do
    unquote "$quoted"
    printf '%s\001' "$path" | tr '\n\001' '\001\n'
  done >"$work/inner"
  for name in written around special walked; do : >"$work/$name"; done
  SAVE=$work awk '
    FILENAME ~ /\/inner$/ { inner[++inners] = $0; next }
    {
      path = substr($0, 3)
      if (/^M /) sub(/^[0-7]* /, "", path)
      for (i = 1; i <= inners; i++) if (path == inner[i] || index(path, inner[i] "/") == 1) next
      if (/^w /) print path >(ENVIRON["SAVE"] "/written")
      else if (/^g /) { if (++around <= 100) print path >(ENVIRON["SAVE"] "/around") }
      else if (/^s /) { if (++special <= 300) print path >(ENVIRON["SAVE"] "/special") }
      else if (++walked <= 20000) print >(ENVIRON["SAVE"] "/walked")
      else more = 1
    }
    END { exit more }' "$work/inner" "$work/found"
  case $? in
    0) ;;
    1) note 'more than 20,000 files and folders have a mode of their own or are empty folders; the modes of the first 20,000 are saved' ;;
    *) fail disk '' ;;
  esac
  # A repository that was made around files of this one: to git they stay files of this one.
  : >"$work/found.within"
  while IFS= read -r path; do
    with_newlines "$path"
    quote "$path"
    printf 'repository %s\n' "$quoted" >>"$work/within"
    printf '%s\n' "$quoted" >>"$work/found.within"
  done <"$work/around"
  [ ! -s "$work/special" ] || specials
  cat "$work/walked" >>"$work/meta"
}

# Named pipes and the like, which git leaves out without a word, unless they are ignored.
specials() {
  tr '\n\001' '\0\n' <"$work/special" | agent_ check-ignore -z --stdin 2>/dev/null | tr '\n\0' '\001\n' | sort >"$work/special.ignored"
  sort "$work/special" | comm -23 - "$work/special.ignored" >"$work/special.told"
  while IFS= read -r path; do
    with_newlines "$path"
    quote "$path"
    awk -F"$tab" -v path="$(printf '%s' "$quoted" | sed 's/\\/&&/g')" '$1 == path { found = 1 } END { exit !found }' "$work/unsaved" || {
      kind='a device'
      [ ! -p "$at/$path" ] || kind='a named pipe'
      [ ! -S "$at/$path" ] || kind='a socket'
      unsaved "$quoted" "it is $kind, which git does not hold"
    }
  done <"$work/special.told"
}

# The repositories, linked worktrees and submodules that staging has found, and the worktrees elsewhere: each a checkpoint of its own.
state_within() {
  number=0
  if [ "$own" = "$common" ] && [ -n "$outermost" ] && [ -d "$common/worktrees" ]; then
    for entry in "$common"/worktrees/*/gitdir; do
      [ -f "$entry" ] || continue
      place=$(head -c 5000 "$entry")
      place=${place%/.git}
      case $place in
        "$at"/*) place=${place#"$at"/} ;;
        "${repository%/*}"/*) place="..${place#"${repository%/*}"}" ;;
        "$HOME"/*) place="~${place#"$HOME"}" ;;
        *)
          note "the linked worktree $place lies outside of the home, and not beside the repository; its commits are kept, and its other files are not"
          continue
          ;;
      esac
      quote "$place"
      grep -qxF -e "worktree $quoted" "$work/within" || printf 'worktree %s\n' "$quoted" >>"$work/within"
    done
  fi
  [ -s "$work/within" ] || return 0
  while IFS= read -r line; do
    kind=${line%% *} quoted=${line#* }
    unquote "$quoted"
    place=$path
    case $path in '~/'*) place=$HOME/${path#'~/'} ;; '../'*) place=${repository%/*}/${path#../} ;; *) place=$at/$path ;; esac
    [ -e "$place/.git" ] || continue
    number=$((number + 1))
    [ "$number" -le 50 ] || {
      note 'there are more than 50 repositories and worktrees within; the others are saved as files alone'
      break
    }
    mkdir -p "$work/$number"
    rm -f "$work/$number/saved"
    failed_within "$(save_within "$kind" "$place" "$work/$number")"
    # In a line, and as sed replaces.
    named=$(printf '%s' "$path" | tr '\n' ' ' | sed 's/[\\,&]/\\&/g')
    [ ! -s "$work/$number/notes" ] || sed "s,^,$named: ," "$work/$number/notes" >>"$work/notes"
    [ -f "$work/$number/saved" ] || continue
    printf 'K %s %s %s\n' "$(cat "$work/$number/saved")" "$kind" "$quoted" >>"$work/meta"
    case $kind in
      worktree) sed -n 's/^HEAD \(.*\)/\1/p' "$work/$number/head" | sed "s,\$, worktree $named," >>"$work/tips" ;;
      submodule) sed -n 's/^HEAD \(.*\)/\1/p' "$work/$number/head" | sed "s,\$, submodule $named," >>"$work/tips.submodules" ;;
    esac
    # Its commits are on branches of its own, its other files on none.
    [ "$kind" != worktree ] || below "$quoted" <"$work/$number/changed" | while IFS= read -r file; do
      unsaved "$file" 'it is in a linked worktree, and in none of its commits'
    done
    # What is wrong with its files was said of them as files of this repository.
    grep -e 'which git does not hold$' "$work/$number/unsaved" | while IFS="$tab" read -r file reason; do
      unsaved "$(printf '%s\n' "$file" | below "$quoted")" "$reason"
    done
  done <"$work/within"
}

# save_within KIND PLACE FOLDER: in a shell of its own. Leaves the checkpoint's sha in FOLDER/saved.
save_within() {
  outermost='' within_kind=$1 around=$own
  open_agent "$2" "$3"
  [ -n "$usable" ] || return
  agent_head
  [ -n "$usable" ] || return
  if [ "$within_kind" != worktree ] && [ "$(cd "$common" && du -sk objects 2>/dev/null | cut -f 1)" -gt $most_foreign_kib ]; then
    note "its history is larger than $((most_foreign_kib / 1024)) MiB, and is not saved"
    return
  fi
  printf 'HEAD %s\n' "$head" >"$work/head"
  from=${head:-4b825dc642cb6eb9a060e54bf8d69288fbee4904} origin=$from
  nested_as=gitlink
  stage
  # What lies in a repository that lies in this one was found from without.
  [ "$within_kind" != repository ] || : >"$work/within"
  : >"$work/changed"
  [ "$within_kind" != worktree ] || agent_ diff-index --cached --name-only "$from" 2>/dev/null | head -n 200 >"$work/changed"
  state_of
  case $within_kind$own in submodule"$around"/*) printf 'T %s\n' "${own#"$around"/}" >>"$work/meta" ;; esac
  [ "$within_kind" = repository ] || state_within
  state_written
  parents="-p $state_commit"
  [ -z "$head" ] || parents="-p $head $parents"
  # shellcheck disable=SC2086 # options and shas
  made=$(echo 'Checkpoint' | GIT_AUTHOR_NAME=switchyard GIT_AUTHOR_EMAIL=switchyard@localhost GIT_COMMITTER_NAME=switchyard \
    GIT_COMMITTER_EMAIL=switchyard@localhost GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000' lent commit-tree "$tree" $parents 2>"$work/error") || return
  if carry "$made"; then printf '%s\n' "$made" >"$work/saved"; else note "its git folder lacks objects of its history, which is not saved: $(head -n 1 "$work/missing" | cut -c 1-200)"; fi
}
