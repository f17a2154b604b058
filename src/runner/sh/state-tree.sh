
# State: what the work tree holds and the staged tree does not say: bytes that a checkout would write otherwise, empty folders, modes, and what is no
# file at all.

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
  # Not those with a flag: their content is saved as it is, and git checks none of them out, without a word of why.
  agent_ -c core.quotePath=false ls-files -v -s |
    awk -F"$tab" -v all=$all 'FILENAME != "-" { written[$0] = 1; next } (all || $2 in written) && /^H 100[0-7]* [0-9a-f]* 0/ { split($1, part, " "); print part[3] FS $2 }' "$work/written" - | head -n 20000 >"$work/candidates"
  [ -s "$work/candidates" ] || return 0
  # One that can't be read, has gone, or is a pipe by now, at which git would wait, costs the others nothing.
  while IFS= read -r line; do
    unquote "${line#*"$tab"}"
    if [ -f "$at/$path" ] && [ ! -L "$at/$path" ] && [ -r "$at/$path" ]; then printf '%s\n' "$line"; fi
  done <"$work/candidates" >"$work/candidates.read" && mv "$work/candidates.read" "$work/candidates" || return 0
  cut -f 2- "$work/candidates" >"$work/names"
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
