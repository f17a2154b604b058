import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { execFile, spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { InfrastructureError } from '../../src/job/errors.js'
import type { Provider, SandboxRequest } from '../../src/providers/provider.js'
import { processesWith } from '../processes.js'
import { attacks, type Outcome, type PlaceName, type Targets, type TrialName, trials } from './attacks.js'

/** A provider as it is attacked. */
export interface Place {
  readonly name: PlaceName
  readonly provider: Provider
  /** As `provider`, where its shortest lifetime is long: one whose lifetimes pass quickly. */
  readonly brief?: Provider
  /** As `provider`, with `narrow` limits; undefined where there are none, or none can be had here. */
  readonly narrow?: Provider
  /** As `provider`, with `narrow.maxFileMiB` alone: it would keep the other limits from being reached. */
  readonly smallFiles?: Provider
  /** Which of these limits `narrow` has. */
  readonly limits: readonly (keyof typeof narrow)[]
  readonly network: 'open' | 'none'
  /** Sandboxes see no process but their own. */
  readonly ownProcesses: boolean
  close(): Promise<void>
}

/** The limits that trials try to go over: 64 MiB of memory (a job asks for them), and what else a provider is configured with. */
export const narrow = { memoryMiB: 64, cpu: 1, maxProcesses: 32, maxFiles: 1_000, maxFileMiB: 8, maxOpenFiles: 64, diskMiB: 64 } as const

export interface Found {
  readonly tries: string
  readonly outcome: Outcome
  /** What was reached, or why it was not tried. */
  readonly detail: string
}

const call = { timeoutMs: 150_000 }

/**
 * Runs every attack at a place.
 * @param withTrials without, only those that are a script: where nothing holds a job, the others wait long for what does not come.
 */
export async function attack(place: Place, withTrials = true): Promise<Found[]> {
  const host = await setUpHost()
  try {
    const sandbox = await place.provider.create(request(place), call)
    const found: Found[] = []
    for (const { tries, script } of attacks) {
      const { stdout } = await place.provider.exec(sandbox.id, { script, env: { ...host.targets } }, call)
      found.push(judged(tries, stdout))
    }
    await place.provider.kill(sandbox.id, call)
    // Most of them wait for what comes or does not.
    const waiting = withTrials ? (Object.keys(trials) as TrialName[]) : []
    const tried = new Map<TrialName, Found>()
    const lane = async () => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) tried.set(name, judged(trials[name].tries, await trial[name](place, host.targets)))
    }
    await Promise.all(Array.from({ length: 3 }, lane))
    return [...found, ...(Object.keys(trials) as TrialName[]).flatMap((name) => tried.get(name) ?? [])]
  } finally {
    await host.close()
  }
}

function judged(tries: string, said: string): Found {
  const lines = said.split('\n').filter((line) => /^(REACHED|UNTRIED)\b/.test(line))
  const outcome = lines.some((line) => line.startsWith('REACHED')) ? 'open' : lines.length > 0 ? 'untried' : 'held'
  return { tries, outcome, detail: lines.slice(0, 3).join('; ') }
}

/** Whether what was found is what is promised: what should be held is, and at places with walls what is said to be open is no more than that. */
export function keepsPromise(expected: Outcome, { outcome }: Found, place: PlaceName): boolean {
  if (outcome === 'untried' || expected === 'untried') return true
  return expected === 'held' ? outcome === 'held' : place === 'plain' || place === 'docker' || outcome === 'open'
}

/** Waits for whoever looks now and then, and for long where nobody does. */
const outlast = 'sleep 120; echo REACHED'

/** Tries a limit by a script in a sandbox that has it. */
async function within({ narrow: provider, limits, ...place }: Place, limit: keyof typeof narrow, script: string): Promise<string> {
  if (provider === undefined || !limits.includes(limit)) return 'UNTRIED no limit'
  const resources = Object.fromEntries((['memoryMiB', 'cpu', 'diskMiB'] as const).flatMap((name) => (name === limit ? [[name, narrow[name]]] : [])))
  const sandbox = await provider.create(request(place, { resources }), call)
  const said = await provider.exec(sandbox.id, { script }, call).then(
    ({ stdout }) => stdout,
    (error: unknown) => {
      // A limit that ends the whole sandbox is one that binds.
      if (error instanceof InfrastructureError && error.kind === 'sandbox-lost') return ''
      throw error
    },
  )
  await provider.kill(sandbox.id, call)
  return said
}

/** What whoever listens on a port of this machine's loopback says; nothing when there is nobody. */
function saidOn(port: number): Promise<string> {
  return new Promise((resolve) => {
    let said = ''
    const socket = connect(port, '127.0.0.1').on('data', (piece: Buffer) => (said += piece.toString()))
    socket.setTimeout(3_000, () => socket.destroy())
    socket.on('error', () => undefined).once('close', () => resolve(said))
  })
}

/** Programs by the names of those that lead into sandboxes, and a library: whichever of them runs leaves its name in `caught`. */
async function makeTraps(folder: string): Promise<{ readonly bin: string; readonly library: string; readonly script: string; readonly caught: string }> {
  const [bin, caught, script, library] = [join(folder, 'bin'), join(folder, 'caught'), join(folder, 'script'), join(folder, 'trap.so')]
  await mkdir(bin)
  await mkdir(caught)
  await chmod(caught, 0o777)
  for (const name of ['sh', 'bash', 'bwrap', 'nsenter', 'unshare', 'setpriv', 'setsid', 'env', 'taskset', 'systemd-run', 'prlimit']) {
    await writeFile(join(bin, name), `#!/bin/sh\n: >'${caught}/${name}'\nexit 1\n`, { mode: 0o755 })
  }
  await writeFile(script, `: >'${caught}/script'\n`, { mode: 0o755 })
  await writeFile(join(bin, 'trap.js'), `require('fs').writeFileSync('${caught}/node', '')\n`)
  const source = join(folder, 'trap.c')
  await writeFile(source, `#include <fcntl.h>\n__attribute__((constructor)) static void trap(void) { creat("${caught}/library", 0600); }\n`)
  // Without a compiler that one is not tried.
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-o', library, source]).catch(() => undefined)
  return { bin, library, script, caught }
}

let counter = 0
function request({ network }: Pick<Place, 'network'>, changes: Partial<SandboxRequest> = {}): SandboxRequest {
  return { name: `attack-${process.pid}-${++counter}`, tags: { attack: 'yes' }, image: undefined, resources: {}, lifetimeMs: 1_800_000, network, gitHosts: [], ...changes }
}

const trial: Readonly<Record<TrialName, (place: Place, targets: Targets) => Promise<string>>> = {
  async leftBehind(place) {
    const [sandbox, seconds] = [await place.provider.create(request(place), call), uniqueSeconds()]
    await place.provider.exec(sandbox.id, { script: `PATH=$PATH; env -i "$(command -v setsid)" sleep ${seconds} >/dev/null 2>&1 </dev/null & sleep 0.2` }, call)
    await until(async () => (await processesWith('sleep', seconds)).length > 0)
    await place.provider.kill(sandbox.id, call)
    // A container's processes end a moment after its removal was answered.
    await until(async () => (await processesWith('sleep', seconds)).length === 0, 3_000)
    const left = await processesWith('sleep', seconds)
    for (const pid of left) process.kill(pid, 'SIGKILL')
    return left.length === 0 ? '' : 'REACHED'
  },

  async otherSandbox(place) {
    const [one, other] = [await place.provider.create(request(place), call), await place.provider.create(request(place), call)]
    const mark = randomBytes(6).toString('hex')
    const { stdout: home } = await place.provider.exec(one.id, { script: `cd && echo secret >"${mark}" && chmod 644 "${mark}" && pwd` }, call)
    const { stdout } = await place.provider.exec(other.id, { script: `cat "$OTHER/${mark}" 2>/dev/null | grep -q secret && echo REACHED; :`, env: { OTHER: home.trim() } }, call)
    for (const { id } of [one, other]) await place.provider.kill(id, call)
    return stdout
  },

  async leftOver(place) {
    const [mark, key] = [randomBytes(6).toString('hex'), randomInt(1, 2 ** 31)]
    const one = await place.provider.create(request(place), call)
    // A segment of shared memory has no name that ends with its sandbox's files.
    const script = `for folder in /tmp /dev/shm /var/tmp; do echo left >"$folder/${mark}"; done 2>/dev/null; ! command -v perl >/dev/null || perl -e 'shmget(${key}, 4096, 01666)'; :`
    await place.provider.exec(one.id, { script }, call)
    await place.provider.kill(one.id, call)
    const next = await place.provider.create(request(place), call)
    const { stdout } = await place.provider.exec(next.id, { script: `for folder in /tmp /dev/shm /var/tmp; do [ -e "$folder/${mark}" ] && echo "REACHED $folder"; done; ! command -v perl >/dev/null || perl -e 'print "REACHED shared memory\n" if defined shmget(${key}, 0, 0)'; :` }, call)
    await place.provider.kill(next.id, call)
    const [left, segments] = await Promise.all([
      Promise.all(['/tmp', '/dev/shm', '/var/tmp'].map((folder) => rm(join(folder, mark)).then(() => true, () => false))),
      promisify(execFile)('ipcrm', ['--shmem-key', String(key)]).then(() => true, () => false),
    ])
    return left.includes(true) || segments ? `REACHED on the host\n${stdout}` : stdout
  },

  async followed(place, { HOST_FOLDER }) {
    const sandbox = await place.provider.create(request(place), call)
    const kept = join(HOST_FOLDER, 'kept')
    await mkdir(kept)
    await writeFile(join(kept, 'file'), 'kept', { mode: 0o600 })
    await chmod(kept, 0o700)
    const script = `for folder in "$HOME" /tmp; do ln -s '${kept}' "$folder/link"; ln -s '${kept}/file' "$folder/file"; mkdir "$folder/closed" && ln -s '${kept}' "$folder/closed/link" && chmod 0 "$folder/closed"; done; :`
    await place.provider.exec(sandbox.id, { script }, call)
    await place.provider.kill(sandbox.id, call)
    const [folder, file] = await Promise.all([stat(kept), stat(join(kept, 'file')).catch(() => undefined)])
    await rm(kept, { recursive: true, maxRetries: 10 })
    return (folder.mode & 0o777) === 0o700 && file !== undefined && (file.mode & 0o777) === 0o600 ? '' : 'REACHED'
  },

  async listens(place) {
    const [sandbox, mark] = [await place.provider.create(request(place), call), randomBytes(6).toString('hex')]
    const program = `const s = require("net").createServer((c) => c.end("${mark}")).listen(0, "127.0.0.1", () => console.log(s.address().port)); setTimeout(() => process.exit(), 20000)`
    const inPerl = `$| = 1; alarm 20; socket(my $s, 2, 1, 0) or exit; bind($s, pack("S n C4 x8", 2, 0, 127, 0, 0, 1)) && listen($s, 5) or exit; print((unpack("S n", getsockname($s)))[1], "\\n"); while (accept(my $c, $s)) { syswrite($c, "${mark}"); close($c) }`
    const serve = `if command -v node >/dev/null; then exec node -e '${program}'; else exec perl -e '${inPerl}'; fi`
    const { stdout } = await place.provider.exec(sandbox.id, { script: `command -v node >/dev/null || command -v perl >/dev/null || { echo 'UNTRIED no node and no perl'; exit; }; (${serve}) >/tmp/port 2>/dev/null </dev/null & while [ ! -s /tmp/port ] && kill -0 $!; do sleep 0.1; done 2>/dev/null; cat /tmp/port; rm /tmp/port` }, call)
    const port = Number.parseInt(stdout, 10)
    const answer = Number.isNaN(port) ? stdout : (await saidOn(port)).includes(mark) ? 'REACHED' : ''
    await place.provider.kill(sandbox.id, call)
    return answer
  },

  async preloads(place, { HOST_FOLDER }) {
    const traps = await makeTraps(HOST_FOLDER)
    const sandbox = await place.provider.create(request(place), call)
    await place.provider.exec(sandbox.id, { script: 'true; ls / >/dev/null; :', env: { PATH: `${traps.bin}:/usr/bin:/bin`, LD_PRELOAD: traps.library, BASH_ENV: traps.script, ENV: traps.script, NODE_OPTIONS: `--require=${traps.bin}/trap.js` } }, call).catch(() => undefined)
    await place.provider.kill(sandbox.id, call)
    return (await readdir(traps.caught)).map((name) => `REACHED ${name}\n`).join('')
  },

  async sameUser(place) {
    const [sandbox, seconds] = [await place.provider.create(request(place), call), uniqueSeconds()]
    await place.provider.exec(sandbox.id, { script: `sleep ${seconds} >/dev/null 2>&1 </dev/null & sleep 0.2` }, call)
    await until(async () => (await processesWith('sleep', seconds)).length > 0)
    const [pid] = await processesWith('sleep', seconds)
    const user = /^Uid:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]
    await place.provider.kill(sandbox.id, call)
    return Number(user) === process.getuid?.() ? 'REACHED' : ''
  },

  async deadline(place) {
    const provider = place.brief ?? place.provider
    const [sandbox, seconds] = [await provider.create(request(place, { lifetimeMs: 4_000 }), call), uniqueSeconds()]
    // Stops and kills what may be there to keep it: only where all that it sees is the sandbox's own.
    const stopAll = place.ownProcesses ? 'for stat in /proc/[0-9]*; do pid=${stat#/proc/}; [ "$pid" = "$$" ] || kill -STOP "$pid"; done 2>/dev/null;' : ''
    const script = `trap '' HUP INT TERM; (trap '' HUP INT TERM; exec sleep ${seconds}) >/dev/null 2>&1 </dev/null & for file in ~/deadline ~/../deadline /dev/shm/.switchyard-deadline; do echo 9999999999 >"$file"; done 2>/dev/null; ${stopAll} :`
    await provider.exec(sandbox.id, { script }, call).catch(() => undefined)
    const gone = await until(async () => (await provider.get(sandbox.id, call)) === undefined && (await processesWith('sleep', seconds)).length === 0, 25_000)
    await provider.kill(sandbox.id, call)
    return gone ? '' : 'REACHED'
  },

  // It holds what it has read until there is no more, which is long enough for those who look now and then.
  memory: (place) => within(place, 'memoryMiB', `[ "$( (head -c 167772160 /dev/zero; sleep 5) | tail -c 167772160 | wc -c)" -eq 167772160 ] && echo REACHED; :`),

  tmpfs: (place) => within(place, 'memoryMiB', `[ -d /dev/shm ] || { echo 'UNTRIED no /dev/shm'; exit; }; head -c 167772160 /dev/zero >/dev/shm/large 2>/dev/null && sleep 2 && [ "$(wc -c </dev/shm/large)" -eq 167772160 ] && echo REACHED; rm -f /dev/shm/large; :`),

  memfd: (place) =>
    within(
      place,
      'memoryMiB',
      `command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
perl -e 'my $fd = syscall(\`uname -m\` =~ /x86_64/ ? 319 : 279, "x", 0); exit if $fd < 0; open(my $file, "+<&=", $fd) or exit; binmode $file; my $piece = "x" x 1048576; for (1 .. 160) { print $file $piece or exit } close $file or exit; print "REACHED\\n"' 2>/dev/null; :`,
    ),

  // Two that do nothing but run, for three seconds: in hundredths of a second.
  processor: (place) =>
    within(place, 'cpu', `(while :; do :; done) & one=$!; (while :; do :; done) & two=$!; sleep 3; used=0; for pid in $one $two; do set -- $(cut -d ' ' -f 14,15 "/proc/$pid/stat"); used=$((used + $1 + $2)); done; kill -KILL $one $two; [ "$used" -gt 420 ] && echo "REACHED $used"; :`),

  disk: (place) => within(place, 'diskMiB', `head -c 100000000 /dev/zero >"$HOME/large"; ${outlast}`),

  files: (place) => within(place, 'maxFiles', `mkdir "$HOME/many"; cd "$HOME/many"; i=0; while [ $i -lt 1200 ]; do : >$i; i=$((i+1)); done; ${outlast}`),

  fileSize: ({ smallFiles, ...place }) => within({ ...place, ...(smallFiles === undefined ? {} : { narrow: smallFiles }) }, 'maxFileMiB', 'head -c 16777216 /dev/zero >"$HOME/large"; [ "$(wc -c <"$HOME/large")" -gt 8388608 ] && echo REACHED; :'),

  openFiles: (place) =>
    within(place, 'maxOpenFiles', `ulimit -n 200 2>/dev/null && echo 'REACHED the limit is moved'; command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }; perl -e 'my @open; for (1 .. 150) { open($open[$_], "<", "/dev/null") or exit } print "REACHED\\n"'`),

  async processes({ narrow, ...place }) {
    if (narrow === undefined || !place.limits.includes('maxProcesses')) return 'UNTRIED no limit'
    const [sandbox, seconds] = [await narrow.create(request(place), call), uniqueSeconds()]
    await narrow.exec(sandbox.id, { script: `i=0; while [ $i -lt 80 ]; do i=$((i + 1)); sleep ${seconds} >/dev/null 2>&1 </dev/null & done; :` }, { timeoutMs: 5_000 }).catch(() => undefined)
    const running = (await processesWith('sleep', seconds)).length
    await narrow.kill(sandbox.id, call)
    // As a cgroup counts, the processes that lead commands in are among them.
    return running > 60 ? `REACHED ${running}` : ''
  },
}

/** What scripts look for: a process, a server, sockets and a file of this user's. */
async function setUpHost(): Promise<{ readonly targets: Targets; close(): Promise<void> }> {
  const mark = `switchyard-${randomBytes(8).toString('hex')}`
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-attack-'))
  await chmod(folder, 0o755)
  const file = join(folder, 'file')
  await writeFile(file, 'host', { mode: 0o600 })
  const marked = spawn(process.execPath, ['-e', 'setInterval(() => 0, 1e6)', mark], { env: { MARK: mark }, stdio: 'ignore' })
  const [socketPath, socketName] = [join(folder, 'socket'), `switchyard-${randomBytes(8).toString('hex')}`]
  const servers: Server[] = []
  for (const where of [socketPath, `\0${socketName}`, { port: 0, host: '127.0.0.1' }]) {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.end('hello\n')
    })
    servers.push(server)
    await once(server.listen(where), 'listening')
  }
  await chmod(socketPath, 0o777)
  const address = servers.at(-1)?.address()
  return {
    targets: {
      HOST_PID: String(marked.pid),
      // What matches it and not itself: among a sandbox's own processes, which are given this, one may have that number.
      HOST_MARK: mark.replace(/^./, '[$&]'),
      HOST_PORT: String(typeof address === 'object' ? address?.port : ''),
      HOST_FILE: file,
      HOST_FOLDER: folder,
      SOCKET_PATH: socketPath,
      SOCKET_NAME: socketName,
    },
    async close() {
      marked.kill('SIGKILL')
      for (const server of servers) server.close()
      await rm(folder, { recursive: true, maxRetries: 10 })
    },
  }
}

async function until(done: () => Promise<boolean>, withinMs = 10_000): Promise<boolean> {
  const endMs = Date.now() + withinMs
  while (Date.now() < endMs) {
    if (await done()) return true
    await sleep(50)
  }
  return done()
}

/** A number that `sleep` takes and that no other process has. */
function uniqueSeconds(): string {
  return `7${randomInt(1_000_000_000)}${++counter}`
}
