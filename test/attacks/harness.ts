import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Provider, SandboxRequest } from '../../src/providers/provider.js'
import { processesWith } from './processes.js'
import { attacks, type Outcome, type PlaceName, type Targets, type TrialName, trials } from './attacks.js'

/** A provider as it is attacked. */
export interface Place {
  readonly name: PlaceName
  readonly provider: Provider
  /** As `provider`, with 64 MiB and 32 processes; undefined where there are no such limits, or none can be had here. */
  readonly narrow?: Provider
  readonly network: 'open' | 'none'
  /** Sandboxes see no process but their own. */
  readonly ownProcesses: boolean
  close(): Promise<void>
}

export interface Found {
  readonly tries: string
  readonly outcome: Outcome
  /** What was reached, or why it was not tried. */
  readonly detail: string
}

const call = { timeoutMs: 40_000 }

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
    for (const name of withTrials ? (Object.keys(trials) as TrialName[]) : []) found.push(judged(trials[name].tries, await trial[name](place)))
    return found
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

let counter = 0
function request({ network }: Place, changes: Partial<SandboxRequest> = {}): SandboxRequest {
  return { name: `attack-${process.pid}-${++counter}`, tags: { attack: 'yes' }, image: undefined, resources: {}, lifetimeMs: 300_000, network, gitHosts: [], ...changes }
}

const trial: Readonly<Record<TrialName, (place: Place) => Promise<string>>> = {
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
    const [sandbox, seconds] = [await place.provider.create(request(place, { lifetimeMs: 4_000 }), call), uniqueSeconds()]
    // Stops and kills what may be there to keep it: only where all that it sees is the sandbox's own.
    const stopAll = place.ownProcesses ? 'for stat in /proc/[0-9]*; do pid=${stat#/proc/}; [ "$pid" = "$$" ] || kill -STOP "$pid"; done 2>/dev/null;' : ''
    const script = `trap '' HUP INT TERM; (trap '' HUP INT TERM; exec sleep ${seconds}) >/dev/null 2>&1 </dev/null & for file in ~/deadline ~/../deadline /dev/shm/.switchyard-deadline; do echo 9999999999 >"$file"; done 2>/dev/null; ${stopAll} :`
    await place.provider.exec(sandbox.id, { script }, call).catch(() => undefined)
    const gone = await until(async () => (await place.provider.get(sandbox.id, call)) === undefined && (await processesWith('sleep', seconds)).length === 0, 25_000)
    await place.provider.kill(sandbox.id, call)
    return gone ? '' : 'REACHED'
  },

  async memory({ narrow, ...place }) {
    if (narrow === undefined) return 'UNTRIED no limit'
    const sandbox = await narrow.create(request(place, { resources: { memoryMiB: 64 } }), call)
    const script = `command -v perl >/dev/null || { echo 'UNTRIED no perl'; exit; }
perl -e 'my $fd = syscall(\`uname -m\` =~ /x86_64/ ? 319 : 279, "x", 0); exit if $fd < 0; open(my $file, "+<&=", $fd) or exit; binmode $file; my $piece = "x" x 1048576; for (1 .. 160) { print $file $piece or exit } close $file or exit; print "REACHED\\n"' 2>/dev/null; :`
    const { stdout } = await narrow.exec(sandbox.id, { script }, call)
    await narrow.kill(sandbox.id, call)
    return stdout
  },

  async disk({ narrow, ...place }) {
    if (narrow === undefined) return 'UNTRIED no limit'
    const sandbox = await narrow.create(request(place, { resources: { diskMiB: 64 } }), call)
    const { stdout } = await narrow.exec(sandbox.id, { script: 'head -c 100000000 /dev/zero >"$HOME/large"; sleep 25; echo REACHED' }, call)
    await narrow.kill(sandbox.id, call)
    return stdout
  },

  async processes({ narrow, ...place }) {
    if (narrow === undefined) return 'UNTRIED no limit'
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
  const [socketPath, socketName] = [join(folder, 'socket'), mark]
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
      HOST_MARK: mark,
      HOST_PORT: String(typeof address === 'object' ? address?.port : ''),
      HOST_FILE: file,
      SOCKET_PATH: socketPath,
      SOCKET_NAME: socketName,
    },
    async close() {
      marked.kill('SIGKILL')
      for (const server of servers) server.close()
      await rm(folder, { recursive: true })
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
