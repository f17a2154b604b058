/**
 * What commands in a sandbox may not ask the kernel for: what the default profiles of OCI runtimes refuse without capabilities and what
 * Flatpak refuses, less what builds and debuggers live by (ptrace, which reaches filtered processes only).
 *
 * Numbers are those of the kernel's tables for x86-64 and arm64; null where the architecture has no such call.
 */
export interface DeniedSyscall {
  readonly name: string
  readonly x64: number | null
  readonly arm64: number | null
}

const table = (rows: readonly (readonly [string, number | null, number | null])[]): readonly DeniedSyscall[] =>
  rows.map(([name, x64, arm64]) => ({ name, x64, arm64 }))

/** Kernel keyrings, the machine's clock, devices, modules, other processes' memory, and interfaces with a history of faults. */
export const deniedAlways = table([
  ['acct', 163, 89],
  ['add_key', 248, 217],
  ['adjtimex', 159, 171],
  ['bpf', 321, 280],
  ['clock_adjtime', 305, 266],
  ['clock_settime', 227, 112],
  ['create_module', 174, null],
  ['delete_module', 176, 106],
  ['fanotify_init', 300, 262],
  ['finit_module', 313, 273],
  ['get_kernel_syms', 177, null],
  ['init_module', 175, 105],
  ['io_uring_enter', 426, 426],
  ['io_uring_register', 427, 427],
  ['io_uring_setup', 425, 425],
  ['ioperm', 173, null],
  ['iopl', 172, null],
  ['kcmp', 312, 272],
  ['kexec_file_load', 320, 294],
  ['kexec_load', 246, 104],
  ['keyctl', 250, 219],
  ['lookup_dcookie', 212, 18],
  ['lsm_set_self_attr', 460, 460],
  ['mbind', 237, 235],
  ['migrate_pages', 256, 238],
  ['modify_ldt', 154, null],
  ['move_pages', 279, 239],
  ['name_to_handle_at', 303, 264],
  ['nfsservctl', 180, 42],
  ['open_by_handle_at', 304, 265],
  ['perf_event_open', 298, 241],
  ['process_vm_readv', 310, 270],
  ['process_vm_writev', 311, 271],
  ['query_module', 178, null],
  ['quotactl', 179, 60],
  ['quotactl_fd', 443, 443],
  ['reboot', 169, 142],
  ['request_key', 249, 218],
  ['set_mempolicy', 238, 237],
  ['set_mempolicy_home_node', 450, 450],
  ['settimeofday', 164, 170],
  ['swapoff', 168, 225],
  ['swapon', 167, 224],
  ['_sysctl', 156, null],
  ['sysfs', 139, null],
  ['syslog', 103, 116],
  ['uselib', 134, null],
  ['userfaultfd', 323, 282],
  ['ustat', 136, null],
  ['vhangup', 153, 58],
])

/**
 * What only namespaces of one's own make possible. `setns` is not among them: it takes capabilities that no command can get without
 * these, and it is how commands enter a sandbox under the filter.
 */
export const deniedOutsideNestedNamespaces = table([
  ['chroot', 161, 51],
  ['fsconfig', 431, 431],
  ['fsmount', 432, 432],
  ['fsopen', 430, 430],
  ['fspick', 433, 433],
  ['listmount', 458, 458],
  ['mount', 165, 40],
  ['mount_setattr', 442, 442],
  ['move_mount', 429, 429],
  ['open_tree', 428, 428],
  ['open_tree_attr', 467, 467],
  ['pivot_root', 155, 41],
  ['setdomainname', 171, 162],
  ['sethostname', 170, 161],
  ['statmount', 457, 457],
  ['umount2', 166, 39],
])

/** Memory that no watcher of processes sees: refused where no cgroup counts it. */
export const deniedUncounted = table([
  ['memfd_create', 319, 279],
  ['memfd_secret', 447, 447],
  ['shmget', 29, 194],
])

/** Calls whose arguments decide. */
export const inspected = {
  clone: { x64: 56, arm64: 220 },
  clone3: { x64: 435, arm64: 435 },
  ioctl: { x64: 16, arm64: 29 },
  personality: { x64: 135, arm64: 92 },
  socket: { x64: 41, arm64: 198 },
  unshare: { x64: 272, arm64: 97 },
} as const

/** The newest call that these lists were made with (file_setattr of Linux 6.17): what comes after it is answered as by an older kernel. */
export const newestKnown = 469
