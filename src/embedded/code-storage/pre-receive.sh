#!/bin/sh
# Refuses a whole push when one of its refs is not what the token allows, before any object of it is kept.
# CODE_STORAGE_POLICY holds a rule a line: pattern, tab, ",operation,operation,". The first that matches decides.
# The same decisions are in policy.ts, for the HTTP API.
set -uf
tab=$(printf '\t')

operations_for() {
  while IFS=$tab read -r pattern operations; do
    case $pattern in
      '*') ;;
      */'*') case $1 in "${pattern%'*'}"*) ;; *) continue ;; esac ;;
      *) [ "$pattern" = "$1" ] || continue ;;
    esac
    printf '%s' "$operations"
    return
  done <<END
$CODE_STORAGE_POLICY
END
}

is_zero() {
  case $1 in *[!0]*) return 1 ;; esac
}

fast_forward() {
  is_zero "$2" && return 1
  is_zero "$1" && return 0
  git merge-base --is-ancestor "$1" "$2"
}

# Every commit that is new to the ref, and not only those that are new to the repository, is signed with a registered key.
signed() {
  is_zero "$2" && return 0
  if is_zero "$1"; then known='--not --branches'; else known="^$1"; fi
  unsigned=$2
  # shellcheck disable=SC2086 # two words on purpose
  commits=$(git rev-list "$2" $known) || return 1
  for unsigned in $commits; do
    git verify-commit "$unsigned" >/dev/null 2>&1 || return 1
  done
}

deny() {
  echo "denied by policy: $1 ($2)" >&2
  exit 1
}

while read -r old new ref; do
  operations=$(operations_for "$ref")
  case $operations in *,no-push,*) deny "$ref" no-push ;; esac
  case $operations in *,no-force-push,*) fast_forward "$old" "$new" || deny "$ref" no-force-push ;; esac
  case $operations in *,verify-sig,*) signed "$old" "$new" || deny "$ref" "verify-sig: $unsigned is not signed with a registered key" ;; esac
done
