
# State: repositories, linked worktrees and submodules within, each a checkpoint of its own.

# within_before: the repositories within that the last save found, as far as they are still there. But for those that only the walk finds.
within_before() {
  [ -s "$work/within" ] || return 0
  sed 's/^[a-z]* //' "$work/within" | if [ -s "$work/found.within" ]; then grep -vxFf "$work/found.within"; else cat; fi | while IFS= read -r quoted; do
    unquote "$quoted"
    [ ! -e "$at/$path/.git" ] || printf '%s\n' "$quoted"
  done
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
