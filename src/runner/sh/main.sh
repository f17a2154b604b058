
self=$0 nonce=$1 verb=$2
shift 2
exec 2>/dev/null
case $verb in
  probe) probe ;;
  start) start "$@" ;;
  launch) launch "$@" ;;
  supervise) supervise "$@" ;;
  command) command_ "$@" ;;
  read) read_ "$@" ;;
  stop) stop "$@" ;;
  clone) clone "$@" ;;
  checkpoint) checkpoint "$@" ;;
  commit) commit "$@" ;;
  push) push "$@" ;;
  *) fail no-verb "$verb" ;;
esac
