# Root's way into a sandbox: in a mount namespace of its own, lays what the sandbox may see where an unprivileged user finds it, becomes
# that user and goes on as the rest of the arguments. Nothing of it is seen outside.
# $1: the user's number; $2: the folder where things are laid, as 0, 1, …; $3: a file that names them, one a line; $4: setpriv.
user=$1 target=$2 sources=$3 setpriv=$4
shift 4

# Its folders may be closed to others: those that hold a sandbox, or a Node in root's home.
mount -t tmpfs -o mode=0755,size=1m switchyard "$target" && exec 8<"$sources" && cd / || exit 1
index=0
while read -r source <&8; do
  if [ -d "$source" ]; then
    mkdir "$target/$index" && mount --rbind "$source" "$target/$index" || exit 1
  elif [ -e "$source" ]; then
    : >"$target/$index" && mount --bind "$source" "$target/$index" || exit 1
  fi
  index=$((index + 1))
done
exec 8<&-
# Most machines open it to everybody; where it is root's alone, the user's network needs it all the same.
if [ -c /dev/net/tun ] && mknod -m 666 "$target/tun" c 10 200; then mount --bind "$target/tun" /dev/net/tun; fi 2>/dev/null
exec "$setpriv" --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --no-new-privs -- "$@"
