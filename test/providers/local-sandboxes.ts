import { spawnSync } from 'node:child_process'

/** Whether this machine lets this user make sandboxes with bubblewrap; tests of them are skipped otherwise. */
export const bubblewrapWorks =
  spawnSync('bwrap', ['--unshare-user', '--uid', '0', '--unshare-pid', '--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev', 'true']).status === 0
