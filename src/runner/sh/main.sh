
self=$0 nonce=$1 verb=$2
shift 2
exec 2>/dev/null
# In braces, so that a shell which reads the file as it goes has read all of it before anything runs.
{
  case $verb in
    probe) probe "$@" ;;
    start) start "$@" ;;
    launch) launch "$@" ;;
    supervise) supervise "$@" ;;
    command) command_ "$@" ;;
    read) read_ "$@" ;;
    stop) stop "$@" ;;
    clone) clone "$@" ;;
    restore) restore "$@" ;;
    checkpoint) checkpoint "$@" ;;
    commit) commit "$@" ;;
    push) push "$@" ;;
    pack) pack "$@" ;;
    lfs) lfs "$@" ;;
    lfs-sent) lfs_sent "$@" ;;
    lfs-withhold) lfs_withhold "$@" ;;
    lfs-piece) lfs_piece "$@" ;;
    piece) piece "$@" ;;
    artifacts) artifacts "$@" ;;
    artifacts-read) artifacts_read "$@" ;;
    artifacts-piece) artifacts_piece "$@" ;;
    *) fail no-verb "$verb" ;;
  esac
  exit
}
