
# Commits on their way in and out as packs, for a sandbox whose git must not talk to the host: the consumer does instead.

# take_pack NAME: what the consumer put to $state/incoming-NAME.pack becomes the private folder's pack. Its history begins where
# incoming-NAME.shallow says.
take_pack() {
  incoming=$state/incoming-$1
  [ -f "$incoming.pack" ] && [ -f "$incoming.shallow" ] || fail no-pack ''
  [ ! -s "$incoming.shallow" ] || mv -f "$incoming.shallow" "$private/shallow" || fail disk ''
  mv -f "$incoming.pack" "$private/objects/pack/pack-$1.pack" || fail disk ''
  output=$(git_ index-pack "$private/objects/pack/pack-$1.pack" 2>&1) || fail git "$output"
  rm -f "$state"/incoming-*
}

# pack SHA BASE PARENT INLINE MAX: the commits that lead to SHA and neither to BASE, where the job started, nor to PARENT, the last of
# its commits that the host has. Answers the pack's name (its checksum) and size, the commits that it builds on, how deep BASE lies
# below PARENT, and the bytes themselves if they are at most INLINE. Otherwise they stay for "piece", unless there are more than MAX.
pack() {
  sha=$1 base=$2 parent=$3 inline=$4 max=$5
  git_environment
  [ -d "$private" ] || fail no-state "$private"
  lock
  git_config
  git_ cat-file -e "$sha^{commit}" || fail no-commit "$sha"
  settle_attempt "$sha"
  rm -f "$state"/outgoing-*
  # A sandbox that began with a checkpoint may lack the base.
  git_ cat-file -e "$base^{commit}" || base=$parent
  made=$(printf '%s\n^%s\n^%s\n' "$sha" "$base" "$parent" | git_ pack-objects -q --revs "$state/outgoing" 2>&1) || fail work "$made"
  made=$(printf '%s\n' "$made" | tail -n 1)
  is_sha "$made" || fail work "$made"
  packed=$state/outgoing-$made.pack
  size=$(wc -c <"$packed" | tr -d ' ')
  lfs_made "$sha"
  begin
  field lfs "$(($(cat "$state/lfs.new" "$state/lfs.absent" | wc -l)))"
  field name "$made"
  field size "$size"
  field borders "$(git_ rev-list --boundary "$sha" "^$base" "^$parent" | sed -n 's/^-//p' | head -n 201 | tr '\n' ' ')"
  field depth $(($(git_ rev-list --count "$parent" "^$base") + 1))
  [ "$size" -gt "$inline" ] || blob pack <"$packed"
  rm -f "${packed%.pack}.idx" "${packed%.pack}.rev"
  [ "$size" -gt "$inline" ] && [ "$size" -le "$max" ] || rm -f "$packed"
  finish
}

# piece NAME BLOCK BLOCKS: that many blocks of 4096 bytes of a pack, from that block on; none removes it.
piece() {
  packed=$state/outgoing-$1.pack
  if [ "$3" -eq 0 ]; then rm -f "$packed"; elif [ ! -f "$packed" ]; then fail no-pack ''; fi
  begin
  [ "$3" -eq 0 ] || dd if="$packed" bs=4096 skip="$2" count="$3" 2>/dev/null | blob piece
  finish
}
