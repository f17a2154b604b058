
# Git LFS. What the checkout needs is fetched when a sandbox begins, and what the agent made is uploaded before the refs that need it are
# pushed: by git-lfs with a git folder and a store of their own, the only calls of it that have a token. The agent's git-lfs finds the
# objects in its own store. Where that can't be, pointers stay pointers.
#   $state/lfs.git    the git folder of such a call, made anew for each
#   $state/lfs.store  its objects; those of the agent's folder are the same files
#   $state/lfs.done   the last commit whose objects the host has; lfs.sent: objects that it has besides
#   $state/lfs.used   is there when the checkout has a rule for LFS

lfs_store=$state/lfs.store

# lfs_pointers: of the lines "BLOB PATH" on stdin, those that point to objects, as OID SIZE PATH.
lfs_pointers() {
  sort -u >"$state/lfs.blobs"
  cut -d ' ' -f 1 "$state/lfs.blobs" | git_ cat-file --batch-check='%(objecttype) %(objectsize) %(objectname)' |
    awk '$1 == "blob" && $2 > 100 && $2 < 1024 { print $3 }' | git_ cat-file --batch |
    awk '/^[0-9a-f]+ blob [0-9]+$/ { blob = $1 }
      /^version https:\/\/git-lfs\.github\.com\/spec\/v1$/ { found = 1; oid = ""; next }
      found && /^ext-/ { next }
      found && /^oid sha256:[0-9a-f]+$/ && length($0) == 75 { oid = substr($0, 12); next }
      found && oid != "" && /^size [0-9]+$/ { print blob, oid, $2 }
      { found = 0 }' >"$state/lfs.found"
  awk 'NR == FNR { object[$1] = $2 " " $3; next } $1 in object { path = $0; sub(/^[^ ]* ?/, "", path); print object[$1], path }' "$state/lfs.found" "$state/lfs.blobs"
  rm -f "$state/lfs.blobs" "$state/lfs.found"
}

# lfs_call BRANCH SHA ARGUMENT...: git-lfs, with the token. The branch is what the host is asked for.
lfs_call() {
  rm -rf "$state/lfs.git"
  {
    git_folder "$state/lfs.git" "$1" && cp "$private/config" "$state/lfs.git/config" &&
      printf '%s\n' "$private/objects" >"$state/lfs.git/objects/info/alternates" &&
      (own=$state/lfs.git && write_ref "refs/heads/$1" "$2")
  } || fail disk ''
  shift 2
  endpoint=${SWITCHYARD_LFS_URL-}
  [ -n "$endpoint" ] || case $url in *.git) endpoint=$url/info/lfs ;; *) endpoint=$url.git/info/lfs ;; esac
  (
    cd "$state/lfs.git" || exit
    unset GIT_INDEX_FILE
    export GIT_DIR="$state/lfs.git"
    git_remote -c "lfs.url=$endpoint" -c "lfs.pushurl=$endpoint" -c "remote.origin.url=$url" -c "lfs.storage=$lfs_store" -c lfs.locksverify=false \
      -c lfs.basictransfersonly=true -c lfs.standalonetransferagent= -c lfs.dialtimeout=20 -c lfs.activitytimeout=60 lfs "$@"
  )
}

# lfs_said: the last thing that git-lfs printed, without its progress.
lfs_said() { printf '%s\n' "$output" | tr '\r' '\n' | grep -v -e '^$' -e '^Uploading' -e '^Downloading' -e '^fetch: ' | head -n 1 | cut -c 1-200; }

# lfs_clone PACK: of the checkout in $repository. Writes what there is to tell to $state/lfs.notes.
lfs_clone() {
  rm -rf "$lfs_store" "$state/lfs.git" "$state/lfs.done" "$state/lfs.sent" "$state/lfs.withheld" "$state/lfs.notes" "$state/lfs.used"
  git_ ls-files -s -- ':(glob)**/.gitattributes' | cut -c 8-47 | git_ cat-file --batch | grep -q 'filter=lfs' || return 0
  : >"$state/lfs.used"
  [ "${SWITCHYARD_LFS-auto}" != off ] || return 0
  git_ ls-files -s | sed -n "s/^100[0-7]* \([0-9a-f]*\) 0$tab/\1 /p" | lfs_pointers >"$state/lfs.pointers"
  count=$(($(wc -l <"$state/lfs.pointers")))
  why=
  if ! command -v git-lfs >/dev/null; then why='git-lfs is not in the sandbox'; elif [ "$1" != - ]; then why='nothing in the sandbox talks to the git host'; fi
  if [ -n "$why" ]; then
    [ "$count" -eq 0 ] || echo "$why, so $count LFS files are the pointers to them" >"$state/lfs.notes"
    return 0
  fi
  own=$repository/.git
  # What git-lfs would write itself, and as "git lfs install --local" would say it; not in the file whose entries are saved, since the next
  # sandbox may lack git-lfs.
  printf '[lfs]\n\trepositoryformatversion = 0\n' >"$own/lfs.config" && printf '[include]\n\tpath = lfs.config\n' >>"$own/config" || fail disk ''
  if ! (at=$repository settings=$plain_settings limit=60 && agent_environment && bounded "$git_program" config --get filter.lfs.clean) >/dev/null 2>&1; then
    printf '[filter "lfs"]\n\tclean = git-lfs clean -- %%f\n\tsmudge = git-lfs smudge -- %%f\n\tprocess = git-lfs filter-process\n\trequired = true\n' >>"$own/lfs.config" ||
      fail disk ''
  fi
  [ "$count" -gt 0 ] || return 0
  set -- fetch
  [ "${SWITCHYARD_LFS-auto}" = auto ] || set -- fetch -I "${SWITCHYARD_LFS_INCLUDE-}" -X "${SWITCHYARD_LFS_EXCLUDE-}"
  output=$(lfs_call "$branch" "$sha" "$@" origin "$sha" 2>&1) || echo "not all LFS objects could be fetched, and those files are the pointers to them: $(lfs_said)" >"$state/lfs.notes"
  [ -d "$lfs_store/objects" ] || return 0
  mkdir -p "$own/lfs" && { cp -Rl "$lfs_store/objects" "$own/lfs/" || cp -R "$lfs_store/objects" "$own/lfs/"; } || fail disk ''
  # The agent's own git-lfs writes the files, and none of them has a token.
  output=$( (
    at=$repository settings=$plain_settings
    agent_environment
    export GIT_LFS_SKIP_SMUDGE=1
    bounded "$git_program" lfs checkout
  ) 2>&1) || echo "LFS files could not be put into the work tree: $(lfs_said)" >>"$state/lfs.notes"
}

# lfs_made SHA: writes the objects that the agent made and that lead to it to $state/lfs.new, as OID SIZE PATH. They are in the store
# from then on. Those that are nowhere here are in $state/lfs.absent: the host has them, or nobody.
lfs_made() {
  : >"$state/lfs.new"
  : >"$state/lfs.absent"
  lfs_objects=$repository/.git/lfs/objects
  [ -d "$lfs_objects" ] && [ ! -L "$repository/.git" ] && [ ! -L "$repository/.git/lfs" ] && [ ! -L "$lfs_objects" ] || lfs_objects=
  [ -n "$lfs_objects" ] || [ -f "$state/lfs.used" ] || return 0
  lfs_tip=$1
  first_line "$state/base" && is_sha "$line" || return 0
  set -- "$1" "^$line"
  if first_line "$state/lfs.done" && is_sha "$line" && git_ cat-file -e "$line^{commit}"; then set -- "$@" "^$line"; fi
  printf '%s\n' "$@" | git_ rev-list --objects --stdin | lfs_pointers >"$state/lfs.all"
  # Files can be left out of what is saved, and the agent's own commits can't.
  if [ -s "$state/lfs.withheld" ] && cut -d ' ' -f 1 "$state/lfs.all" | grep -qxFf "$state/lfs.withheld"; then fail lfs-withheld ''; fi
  while read -r lfs_oid lfs_bytes lfs_path; do
    case $lfs_oid in *[!0-9a-f]*) continue ;; esac
    [ ! -f "$state/lfs.sent" ] || ! grep -qxF "$lfs_oid" "$state/lfs.sent" || continue
    lfs_rest=${lfs_oid#??} && lfs_place=${lfs_oid%"$lfs_rest"}/${lfs_rest%"${lfs_rest#??}"}
    lfs_held=$lfs_store/objects/$lfs_place/$lfs_oid
    if [ ! -f "$lfs_held" ] && [ -n "$lfs_objects" ] && [ -f "$lfs_objects/$lfs_place/$lfs_oid" ] && [ ! -L "$lfs_objects/$lfs_place/$lfs_oid" ]; then
      mkdir -p "$lfs_store/objects/$lfs_place" && { ln "$lfs_objects/$lfs_place/$lfs_oid" "$lfs_held" || cp "$lfs_objects/$lfs_place/$lfs_oid" "$lfs_held"; } || fail disk ''
    fi
    lfs_into=absent
    [ ! -f "$lfs_held" ] || [ "$(($(wc -c <"$lfs_held")))" -ne "$lfs_bytes" ] || lfs_into=new
    printf '%s %s %s\n' "$lfs_oid" "$lfs_bytes" "$lfs_path" >>"$state/lfs.$lfs_into"
  done <"$state/lfs.all"
  [ ! -s "$state/lfs.absent" ] || lfs_by_rule
}

# lfs_by_rule: of what is absent, files that only look like a pointer (a test's data) are none.
lfs_by_rule() {
  cut -d ' ' -f 3- "$state/lfs.absent" | tr '\n' '\0' >"$state/lfs.paths"
  (
    export GIT_INDEX_FILE="$state/lfs.index"
    git_ read-tree "$lfs_tip" && git_ check-attr --cached -z --stdin filter <"$state/lfs.paths"
  ) | tr '\0' '\n' | awk 'NR % 3 == 0' >"$state/lfs.rules"
  awk 'NR == FNR { rule[FNR] = $0; next } rule[FNR] == "lfs"' "$state/lfs.rules" "$state/lfs.absent" >"$state/lfs.paths" && mv -f "$state/lfs.paths" "$state/lfs.absent" || fail disk ''
  rm -f "$state/lfs.rules" "$state/lfs.index"
}

# lfs_upload BRANCH SHA: before a push. What can't be uploaded from here is the consumer's to send.
lfs_upload() {
  into=$1 tip=$2
  lfs_made "$2"
  if [ -s "$state/lfs.new" ]; then
    command -v git-lfs >/dev/null || fail lfs 'git-lfs is not where the runner finds programs'
    output=$(cut -d ' ' -f 1 "$state/lfs.new" | sort -u | (
      # As many as one command takes.
      while :; do
        set --
        while [ $# -lt 200 ] && read -r oid; do set -- "$@" "$oid"; done
        [ $# -gt 0 ] || exit 0
        lfs_call "$into" "$tip" push --object-id origin "$@" 2>&1 </dev/null || exit 1
      done
    )) || fail lfs "$(lfs_said)"
    [ ! -s "$state/lfs.absent" ] || cut -d ' ' -f 1 "$state/lfs.new" >>"$state/lfs.sent" || fail disk ''
  fi
  [ ! -s "$state/lfs.absent" ] || fail lfs 'some are not in the sandbox'
  printf '%s\n' "$2" >"$state/lfs.done" || fail disk ''
}

# lfs SHA: names what lfs_upload would send, and what is not here.
lfs() {
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  lfs_made "$1"
  begin
  field count "$(($(wc -l <"$state/lfs.new")))"
  head -n 1000 "$state/lfs.new" | blob objects
  head -n 1000 "$state/lfs.absent" | blob absent
  finish
}

# lfs_sent OID...: the host has these.
lfs_sent() {
  git_environment
  lock
  printf '%s\n' "$@" | grep -E '^[0-9a-f]{64}$' >>"$state/lfs.sent" || fail disk ''
  begin
  finish
}

# lfs_withhold OID...: the host takes no such objects, so the files that need them are not saved as they are.
lfs_withhold() {
  git_environment
  lock
  printf '%s\n' "$@" | grep -E '^[0-9a-f]{64}$' >>"$state/lfs.withheld" || fail disk ''
  rm -f "$state/attempt"
  begin
  finish
}

# lfs_unstage: of what was staged, files that point to withheld objects keep the entry that they had where the job began.
lfs_unstage() {
  [ -s "$state/lfs.withheld" ] || return 0
  agent_ diff-index --cached --raw --no-abbrev --no-renames "$origin" 2>/dev/null | sed -n 's/^:\([0-7]*\) 100[0-7]* \([0-9a-f]*\) \([0-9a-f]*\) [A-Z]/\3 \1 \2/p' |
    lfs_pointers | while read -r oid _ entry; do
    grep -qxF "$oid" "$state/lfs.withheld" || continue
    quoted=${entry#*"$tab"} before=${entry%%"$tab"*}
    case $before in 000000*) before="0 $no_sha" ;; esac
    printf '%s\t%s\n' "$before" "$quoted" | agent_ update-index --index-info
    unsaved "$quoted" 'it is a Git LFS file, and the git host has not taken its content'
  done
}

# lfs_piece OID BLOCK BLOCKS: that many blocks of 4096 bytes of an object, from that block on.
lfs_piece() {
  case $1 in *[!0-9a-f]*) fail no-pack '' ;; esac
  rest=${1#??}
  held=$lfs_store/objects/${1%"$rest"}/${rest%"${rest#??}"}/$1
  [ -f "$held" ] || fail no-pack ''
  begin
  dd if="$held" bs=4096 skip="$2" count="$3" 2>/dev/null | blob piece
  finish
}
