#!/bin/sh
# Installs what an image lacks through the image's own package manager. Not a part of the runner: ../packages.ts runs it as a step.
#
# $SWITCHYARD_PACKAGES names what is wanted: "git", "ca-certificates" or both. The first line of output is the manager's name.
# Exit: 240 neither root nor a sudo that asks for no password; 241 no manager that is known; otherwise what the manager ended with.

wanted=$SWITCHYARD_PACKAGES
unset SWITCHYARD_PACKAGES

as_root=
if [ "$(id -u)" != 0 ]; then
  sudo -n true >/dev/null 2>&1 || exit 240
  as_root='sudo -n'
fi

for manager in apt-get apk dnf microdnf yum zypper pacman ''; do
  [ -z "$manager" ] || ! command -v "$manager" >/dev/null || break
done
[ -n "$manager" ] || exit 241
echo "$manager"

# Nobody is there to answer a question.
# shellcheck disable=SC2086 # no word at all when this is root already
manage() { $as_root env DEBIAN_FRONTEND=noninteractive "$manager" "$@" </dev/null; }

# shellcheck disable=SC2086 # the names are words
install() {
  case $manager in
    apt-get) manage -qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=60 update && manage -qq -o DPkg::Lock::Timeout=60 install -y --no-install-recommends $wanted ;;
    apk) manage add --no-cache $wanted ;;
    zypper) manage --non-interactive --gpg-auto-import-keys install --no-recommends $wanted ;;
    pacman) manage -Sy --noconfirm --needed $wanted ;;
    *) manage install -y $wanted ;;
  esac
}

# A mirror may fail once.
install || {
  sleep 2
  install
}
