/**
 * What a hostile job may try, each as a script that runs in a sandbox and says how far it came. The scripts are safe to run: they open
 * and close, and write nothing outside of their sandbox.
 *
 * A script prints `REACHED …` for what it got at; nothing when it was held; `UNTRIED …` where the sandbox lacks the tool for it.
 */

/** Where jobs run. `held`: the attack comes to nothing; `open`: it succeeds, and the documents say so. */
export type Outcome = 'held' | 'open' | 'untried'

/** What the harness sets up on the host, for a script to look for. */
export interface Targets {
  readonly HOST_PID: string
  /** A pattern for grep. */
  readonly HOST_MARK: string
  readonly HOST_PORT: string
  readonly HOST_FILE: string
  readonly HOST_FOLDER: string
  readonly SOCKET_PATH: string
  readonly SOCKET_NAME: string
}

export const placeNames = {
  root: 'local, as root',
  user: 'local, as a user',
  'user without pasta': 'local, as a user, no pasta',
  plain: 'local, no bubblewrap',
  docker: 'docker',
  e2b: 'server e2b',
  modal: 'server modal',
  daytona: 'server daytona',
  'user servers': 'servers, as a user',
} as const
export type PlaceName = keyof typeof placeNames

/** The protocol servers' places, whoever starts them. */
const atServers = (outcome: Outcome) => ({ e2b: outcome, modal: outcome, daytona: outcome, 'user servers': outcome }) as const

export interface Attack {
  readonly tries: string
  readonly script: string
  /** Left out: held. */
  readonly expected?: Readonly<Partial<Record<PlaceName, Outcome>>>
}

/** Numbers of system calls, in Perl: what a shell can't call. Each of `calls` is [name, number on x86-64, on arm64, arguments]. */
const systemCalls = (calls: readonly (readonly [string, number, number, string])[]) => `
command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
perl -e 'my ($m) = \`uname -m\` =~ /(\\S+)/; my $c = $m eq "x86_64" ? 0 : $m eq "aarch64" ? 1 : undef; if (!defined $c) { print "UNTRIED $m\\n"; exit }
my $b = "\\0" x 4096;
for my $t (${calls.map(([name, x64, arm64, args]) => `["${name}", [${x64}, ${arm64}], sub { (${args}) }]`).join(', ')}) {
  my $r = syscall($t->[1][$c], $t->[2]->()); print "REACHED $t->[0]\\n" if $r >= 0; }'`

const fromNode = (program: string) => `command -v node >/dev/null || { echo 'UNTRIED no node'; exit; }; node -e '${program}'`
const connect = (to: string) => fromNode(`const s = require("net").connect(${to}); s.setTimeout(2000, () => process.exit()); s.on("data", () => { console.log("REACHED"); process.exit() }); s.on("error", () => process.exit())`)

/** The same at a UNIX socket, for places with either of the two. @param path as Node takes it. @param address the same for Perl's `pack`. */
const connectUnix = (path: string, address: string) => `if command -v node >/dev/null; then ${connect(path)}; elif command -v perl >/dev/null; then
perl -e 'alarm 5; socket(my $s, 1, 1, 0) or exit; connect($s, pack("S a*", 1, ${address})) or exit; sysread($s, my $b, 1) and print "REACHED\n"'; else echo 'UNTRIED no node and no perl'; fi; :`

const plain = { plain: 'open' } as const

export const attacks: readonly Attack[] = [
  {
    tries: 'open files of `/proc` for writing that speak for the whole machine',
    // An ordinary user may write little there, bubblewrap or not: what root may is what counts.
    script: `find /proc -path '/proc/[0-9]*' -prune -o -path '/proc/self' -prune -o -type f -print 2>/dev/null | while read -r file; do if ( : >>"$file" ) 2>/dev/null; then echo "REACHED $file"; fi; done`,
    expected: { plain: 'open', docker: 'open' },
  },
  {
    tries: 'read the kernel’s own files (keys, memory, log)',
    script: `for file in keys kcore kmsg sched_debug timer_list; do head -c 1 /proc/$file 2>/dev/null | grep -q . && echo "REACHED $file"; done; :`,
    expected: plain,
  },
  { tries: 'read a file of the host that its consumer may read', script: `[ -r "$HOST_FILE" ] && echo REACHED; :`, expected: plain },
  { tries: 'see the host’s processes and their arguments', script: `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q "setInterval[(].*$HOST_MARK" && echo REACHED; :`, expected: plain },
  { tries: 'read the environment of a process of its consumer’s user', script: `tr '\\0' '\\n' </proc/$HOST_PID/environ 2>/dev/null | grep -q "$HOST_MARK" && echo REACHED; :`, expected: plain },
  { tries: 'signal a process of the host', script: `tr '\\0' ' ' </proc/$HOST_PID/cmdline 2>/dev/null | grep -q "$HOST_MARK" && kill -0 "$HOST_PID" 2>/dev/null && echo REACHED; :`, expected: plain },
  {
    tries: 'connect to a server on the host’s loopback',
    script: `if command -v node >/dev/null; then ${connect('+process.env.HOST_PORT, "127.0.0.1"')}; else nc -w 2 127.0.0.1 "$HOST_PORT" </dev/null 2>/dev/null | grep -q . && echo REACHED; fi; :`,
    expected: { plain: 'open', 'user without pasta': 'open', ...atServers('open') },
  },
  { tries: 'connect to a UNIX socket of the host by its path', script: connectUnix('process.env.SOCKET_PATH', '$ENV{SOCKET_PATH} . "\\0"'), expected: plain },
  { tries: 'connect to a UNIX socket of the host by its abstract name', script: connectUnix('"\\0" + process.env.SOCKET_NAME', '"\\0" . $ENV{SOCKET_NAME}'), expected: { plain: 'open', ...atServers('open') } },
  { tries: 'make a user namespace of its own', script: `unshare -U true 2>/dev/null && echo REACHED; :`, expected: { plain: 'open', docker: 'open' } },
  { tries: 'mount a cgroup hierarchy, to lift its own limits', script: `unshare -Urm sh -c 'for kind in cgroup2 cgroup; do mount -t $kind -o memory x /tmp 2>/dev/null || mount -t $kind x /tmp 2>/dev/null || continue; for file in /tmp/memory.max /tmp/memory.limit_in_bytes; do ( : >>"$file" ) 2>/dev/null && echo REACHED; done; done' 2>/dev/null; :`, expected: plain },
  {
    tries: 'read the session keyring, or add to it',
    script: systemCalls([['read', 250, 219, '11, -3, $b, 4096, 0'], ['add', 248, 217, '"user", "switchyard-attack", "x", 1, -2']]),
    expected: { plain: 'open', docker: 'open' },
  },
  {
    tries: 'load BPF, use io_uring, watch by perf, handle page faults',
    script: systemCalls([['bpf', 321, 280, '0, $b, 72'], ['io_uring', 425, 425, '1, $b'], ['perf', 298, 241, '"\\1\\0\\0\\0\\x80\\0\\0\\0\\1" . "\\0" x 119, 0, -1, -1, 0'], ['userfaultfd', 323, 282, '1']]),
    expected: plain,
  },
  {
    tries: 'open rare kinds of sockets (VSOCK, ALG, packet, audit)',
    script: systemCalls([['VSOCK', 41, 198, '40, 1, 0'], ['ALG', 41, 198, '38, 5, 0'], ['packet', 41, 198, '17, 3, 0'], ['audit', 41, 198, '16, 3, 9']]),
    expected: { plain: 'open', docker: 'open' },
  },
  {
    tries: 'take hold of a process that is not under the filter',
    // Seizing stops nothing and ends with this process.
    script: `command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
for status in /proc/[0-9]*/status; do pid=\${status#/proc/}; pid=\${pid%/status}; [ "$pid" = "$$" ] || grep -q '^Seccomp:.2' "$status" 2>/dev/null || perl -e 'my $x = \`uname -m\` =~ /x86_64/; print "REACHED $ARGV[0]\\n" if syscall($x ? 101 : 117, 0x4206, $ARGV[0] + 0, 0, 0) >= 0' "$pid" 2>/dev/null; done; :`,
    expected: plain,
  },
  {
    tries: 'mount, or change its root',
    // The kind of file system is none: a kernel that would let it mount says so.
    script: `command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
perl -e 'my $x = \`uname -m\` =~ /x86_64/; syscall($x ? 165 : 40, "none", "/tmp", "no-such-kind", 0, 0) < 0 && $! == 19 and print "REACHED mount\\n"; syscall($x ? 161 : 51, "/") >= 0 and print "REACHED chroot\\n"'`,
    expected: plain,
  },
  {
    tries: 'open files of `/sys` for writing',
    script: `find /sys/fs/cgroup /sys/power /sys/kernel/mm /sys/kernel/uevent_helper -maxdepth 3 -type f 2>/dev/null | while read -r file; do if ( : >>"$file" ) 2>/dev/null; then echo "REACHED $file"; break; fi; done; :`,
    expected: plain,
  },
  {
    tries: 'find an open descriptor of its consumer’s',
    script: `fd=3; while [ "$fd" -lt 256 ]; do [ -e "/proc/$$/fd/$fd" ] && [ ! "/proc/$$/fd/$fd" -ef /dev/null ] && echo "REACHED $fd $(readlink "/proc/$$/fd/$fd")"; fd=$((fd + 1)); done; :`,
  },
  {
    tries: 'put characters into a terminal’s input',
    // Its own, which is where the filter is seen.
    script: `command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
perl -e 'open(my $main, "+<", "/dev/ptmx") or exit; my $no = pack("i", 0); ioctl($main, 0x40045431, $no); ioctl($main, 0x80045430, $no); open(my $other, "+<", "/dev/pts/" . unpack("i", $no)) or exit; print "REACHED\\n" if defined ioctl($other, 0x5412, my $key = "x")'`,
    expected: plain,
  },
  { tries: 'hold capabilities, or gain some by a set-user-ID program', script: `grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status | grep -qv '0000000000000000$' && echo REACHED capabilities; grep -q '^NoNewPrivs:.1' /proc/self/status || echo 'REACHED new privileges'; :`, expected: { plain: 'open', docker: 'open' } },
  { tries: 'change the system that it runs on', script: `for folder in / /usr /usr/bin /etc /opt /var; do [ -d $folder ] && ( : >$folder/.switchyard-attack ) 2>/dev/null && rm -f $folder/.switchyard-attack && echo "REACHED $folder"; done; :`, expected: { docker: 'open', plain: 'open' } },
]

/** Where a limit is tried, and at which places there is none. */
const unlimited = { plain: 'open', ...atServers('open') } as const

/** What the harness itself tries from outside, with a sandbox that does its worst. */
export const trials = {
  leftBehind: { tries: 'leave a process behind when it is killed, in a session of its own and with an empty environment', expected: {} },
  leftOver: { tries: 'leave something for the next sandbox in `/tmp`, `/dev/shm` or shared memory', expected: plain },
  followed: { tries: 'have a link of its own followed out of its folder when it is removed', expected: {} },
  otherSandbox: { tries: 'read another sandbox’s files', expected: plain },
  sameUser: { tries: 'run as its consumer’s user on the host', expected: { plain: 'open', user: 'open', 'user without pasta': 'open', docker: 'open', 'user servers': 'open' } },
  listens: { tries: 'answer on the host’s loopback in the place of a program there', expected: { plain: 'open', 'user without pasta': 'open', ...atServers('open') } },
  preloads: { tries: 'run code outside by the environment that its job asks for (`LD_PRELOAD`, `PATH`)', expected: plain },
  deadline: { tries: 'move its deadline, stop what keeps it, or outlive it', expected: plain },
  memory: { tries: 'take more memory than it may have', expected: unlimited },
  tmpfs: { tries: 'take more memory than it may have, as files in memory', expected: unlimited },
  memfd: { tries: 'take more memory than it may have, as memory of no process', expected: unlimited },
  processor: { tries: 'take more processor time than it may have', expected: unlimited },
  disk: { tries: 'take more of the disk than it may have, and go on', expected: { ...unlimited, docker: 'open' } },
  files: { tries: 'make more files than it may have, and go on', expected: { ...unlimited, docker: 'open' } },
  fileSize: { tries: 'write a larger file than it may', expected: { ...unlimited, docker: 'open' } },
  openFiles: { tries: 'have more open files in a process than it may', expected: { ...unlimited, docker: 'open' } },
  processes: { tries: 'start more processes than it may have', expected: plain },
} as const satisfies Readonly<Record<string, { tries: string; expected: Readonly<Partial<Record<PlaceName, Outcome>>> }>>
export type TrialName = keyof typeof trials
