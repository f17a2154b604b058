import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError, InvalidInputError, type InfrastructureErrorKind } from '../../job/errors.js'
import { parseInput } from '../../job/explain.js'
import { bounded } from '../deadline.js'
import type { CallOptions, Capabilities, ExecResult, Lifetime, Provider, SandboxInfo, SandboxRequest, SandboxWish, ShellCommand } from '../provider.js'
import { classify } from './classify.js'
import { commandProblem, maxScriptBytes, maxStdoutBytes, runCommand } from './command.js'
import { defaultStateDir, type LocalProviderConfig, type LocalProviderOptions, localProviderConfigSchema } from './config.js'
import { endSlice } from './delegation.js'
import { enter } from './enter.js'
import { newSandbox, startHolder } from './holder.js'
import { removeCgroups, removeStaleCgroups } from './limits.js'
import { isAlive, killProcess, runKillMarked } from './process-identity.js'
import { probeTools, type Tools } from './tools.js'
import { refuseSockets, wallWarnings } from './warnings.js'
import { wishProblem } from './wish.js'
import { LocalState, type SandboxRecord, sandboxPhase } from './state.js'

/**
 * This machine as a provider.
 *
 * With bubblewrap every sandbox has user, PID, mount, IPC, UTS and network namespaces of its own: it sees the system read-only, its own
 * home and /tmp, its own processes, and nothing else of this machine; its commands run under a seccomp filter (seccomp.ts), and a root
 * consumer's as an unprivileged user of the host, each sandbox's another (staging.ts). Without, it is
 * a set of ordinary processes of this user that bear its id in their environment, with a home of its own and no
 * isolation. Either way a small shell process holds it (holder.sh), so that it outlives the consumer, and any process of
 * this user that has the same `stateDir` and `name` can go on with it.
 *
 * What is enforced:
 * - lifetime: by the holder, to about five seconds.
 * - processes: `maxProcesses`, with bubblewrap only: by a cgroup where this user may make one (root), or by a slice of
 *   the user's own systemd (delegation.ts), as memory and cpu are too; and by RLIMIT_NPROC, which counts inside the sandbox's own user namespace.
 * - memory, with bubblewrap only: by a cgroup where this user may make one; else the sandbox's first process looks
 *   twice a second at the resident memory of all and kills the biggest (exit code 137 either way), and memory that belongs to no
 *   process (memfd, System V segments) can't be had.
 * - cpu, on Linux only: by a cgroup as above; else commands are bound to as many CPUs, rounded up to whole ones.
 * - disk: `maxFileMiB` for every single file; the sum and the number of files, with bubblewrap only, by the holder, which counts them every
 *   few seconds and kills what runs in the sandbox when they are over (exit code 137).
 * - network: with bubblewrap. "none" is an empty one; "open" is a way to the outside with the named ports of this machine's loopback
 *   (network.ts), or, where nothing can make that, this machine's own network, which `check` tells.
 */
export class LocalProvider implements Provider {
  readonly name: string
  readonly kind = 'local'
  readonly #config: LocalProviderConfig
  readonly #state: LocalState
  readonly #capabilities: Capabilities
  /** Whether sandboxes are plain processes, as far as it is known. */
  #plain: boolean
  #probe: Promise<Tools | string> | undefined
  #lastSweepMs = 0

  /** @throws InvalidInputError that names the option. */
  constructor(options: LocalProviderOptions = {}) {
    this.#config = parseInput(localProviderConfigSchema, options, 'local provider')
    this.name = this.#config.name
    this.#state = new LocalState(join(this.#config.stateDir ?? defaultStateDir(), this.name))
    const namespaces = this.#config.isolation !== 'none' && process.platform === 'linux'
    this.#plain = !namespaces
    this.#capabilities = {
      uniqueNames: true,
      extend: true,
      network: { gitOnly: false, none: namespaces, allowList: false },
      reach: { inbound: namespaces ? 'nobody; without pasta whoever reaches this machine' : 'whoever reaches this machine' },
      resources: { cpu: namespaces, memory: namespaces, disk: namespaces },
      sharedSystem: true,
      maxLifetimeMs: this.#config.maxLifetimeMs,
      maxCommandBytes: maxScriptBytes,
    }
  }

  get capabilities(): Capabilities {
    return { ...this.#capabilities, sharedFileSystem: this.#plain }
  }

  refusal(wish: SandboxWish): string | undefined {
    // Whether bubblewrap works here is found out by a call; until then it is taken to.
    const problem = wishProblem(this.#config, wish, this.capabilities.network.none)
    return problem === undefined ? undefined : `${this.name}: ${problem}`
  }

  create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    return this.#call('create', options, async (signal) => {
      const tools = await this.#tools()
      const network = this.#checkRequest(request, tools)
      await this.#state.prepare()
      // Now and then is enough.
      if (Date.now() >= this.#lastSweepMs + 30_000) await this.#sweep(signal)
      for (;;) {
        const meta = await newSandbox(this.#state, this.#config, request, network, tools)
        const id = await this.#state.claimName(request.name, meta.id)
        if (id === meta.id) {
          await startHolder(this.#state, this.#config, meta, tools, signal).catch(async (error: unknown) => {
            // Also when the caller gave up: half a sandbox is of no use to anybody.
            await this.#end(id, AbortSignal.timeout(endingMs))
            throw error
          })
          const started = await this.#state.read(id)
          if (started !== undefined) return this.#info(started)
          throw this.#error('transient', `sandbox ${id} was killed while it started`)
        }
        await this.#end(meta.id, signal)
        const existing = await this.#awaitLive(id, signal)
        if (existing !== undefined) return this.#info(existing)
        await this.#end(id, signal)
        await this.#state.releaseName(request.name, id)
      }
    })
  }

  get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    return this.#call('get', options, async () => {
      const record = await this.#state.read(sandboxId)
      return record === undefined || (await sandboxPhase(record, Date.now())) === 'dead' ? undefined : this.#info(record)
    })
  }

  exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    return this.#call('exec', options, async (signal) => {
      const problem = commandProblem(command)
      if (problem !== undefined) throw this.#error('invalid', problem)
      const record = await this.#awaitLive(sandboxId, signal)
      const entered = record === undefined ? undefined : await enter(record, this.#state.folder(sandboxId), await this.#tools(), command)
      if (record?.init === undefined || entered === undefined) throw this.#lost(sandboxId)
      // oxlint-disable-next-line typescript/no-misused-promises -- finally waits for it
      const outcome = await runCommand(entered.invocation, signal).finally(entered.close)
      // Without namespaces its files are moved away before its processes are killed: what a command says in between is not the sandbox's word.
      if (record.meta.isolation === 'none' && (await this.#state.read(sandboxId)) === undefined) throw this.#lost(sandboxId)
      if (outcome.tooMuch) throw this.#error('invalid', `the command printed more than ${maxStdoutBytes} bytes; print less, or to a file`)
      if (outcome.started && outcome.exitCode < 128) return { exitCode: outcome.exitCode, stdout: outcome.stdout }
      // It was killed or never began: by itself, or because its sandbox ended under it.
      if (!(await outlives(record.init, outcome.started && outcome.exitCode === killedExitCode))) throw this.#lost(sandboxId)
      if (!outcome.started) throw this.#error('transient', `sandbox ${sandboxId} could not be entered: ${outcome.said}`)
      return { exitCode: outcome.exitCode, stdout: outcome.stdout }
    })
  }

  kill(sandboxId: string, options: CallOptions): Promise<void> {
    return this.#call('kill', options, (signal) => this.#end(sandboxId, signal))
  }

  async *list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo> {
    const found = await this.#call('list', options, async () => {
      const live: SandboxInfo[] = []
      for await (const record of this.#state.records()) {
        const matches = Object.entries(tags).every(([name, value]) => record.meta.tags[name] === value)
        if (matches && (await sandboxPhase(record, Date.now())) !== 'dead') live.push(this.#info(record))
      }
      return live
    })
    yield* found
  }

  extend(sandboxId: string, lifetimeMs: number, options: CallOptions): Promise<Lifetime> {
    return this.#call('extend', options, async (signal) => {
      const record = await this.#awaitLive(sandboxId, signal)
      if (record === undefined) throw this.#lost(sandboxId)
      const lifetimeEndsAtMs = this.#lifetimeEndsAtMs(record)
      const expiresAtMs = Math.min(Date.now() + lifetimeMs, lifetimeEndsAtMs ?? Infinity)
      await this.#state.setDeadline(sandboxId, expiresAtMs)
      // A shorter lifetime shortens nothing.
      return { expiresAtMs: Math.max(expiresAtMs, record.expiresAtMs), lifetimeEndsAtMs }
    })
  }

  check(options: CallOptions): Promise<readonly string[]> {
    return this.#call('check', options, async () => {
      await this.#state.prepare()
      await access(this.#state.root, constants.W_OK)
      const tools = await this.#tools()
      const probed = await this.#probe
      return wallWarnings(this.#config, tools ?? (typeof probed === 'string' ? probed : 'isolation is "none"'))
    })
  }

  /** Nothing is open between calls; what is left of sandboxes that ended without `kill` goes. */
  close(): Promise<void> {
    return this.#call('close', { timeoutMs: endingMs }, (signal) => this.#sweep(signal))
  }

  /** @returns undefined for plain processes. */
  async #tools(): Promise<Tools | undefined> {
    if (this.#config.isolation === 'none') return undefined
    const probe = (this.#probe ??= refuseSockets(this.#config.readOnlyPaths).then(probeTools))
    const probed = await probe.catch((error: unknown) => {
      // The next call looks again, unless it is the configuration that is wrong.
      if (this.#probe === probe && !(error instanceof InvalidInputError)) this.#probe = undefined
      throw error
    })
    if (typeof probed !== 'string') return probed
    this.#plain = true
    if (this.#config.isolation === 'bubblewrap') throw this.#error('invalid', `isolation "bubblewrap" is not possible: ${probed}`)
    return undefined
  }

  #checkRequest(request: SandboxRequest, tools: Tools | undefined): 'open' | 'none' {
    const refuse = (problem: string) => this.#error('invalid', problem)
    const { maxLifetimeMs } = this.#config
    if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(request.name)) throw refuse('name: must be at most 63 lower-case letters, digits and "-"')
    const problem = wishProblem(this.#config, request, tools !== undefined)
    if (problem !== undefined) throw refuse(problem)
    if (maxLifetimeMs !== undefined && request.lifetimeMs > maxLifetimeMs) {
      throw refuse(`lifetimeMs: ${request.lifetimeMs} is over this provider's maximum of ${maxLifetimeMs}`)
    }
    return this.#config.network === 'none' || request.network === 'none' ? 'none' : 'open'
  }

  /** Waits while a sandbox is starting. @returns undefined when it is not there or dead. */
  async #awaitLive(id: string, signal: AbortSignal): Promise<SandboxRecord | undefined> {
    for (;;) {
      signal.throwIfAborted()
      const record = await this.#state.read(id)
      if (record === undefined) return undefined
      const phase = await sandboxPhase(record, Date.now())
      if (phase !== 'starting') return phase === 'live' ? record : undefined
      await sleep(10)
    }
  }

  /** Ends a sandbox in whatever phase: any number of processes may do so at the same time, or go on where one died. */
  async #end(id: string, signal: AbortSignal): Promise<void> {
    const doomed = await this.#state.doom(id)
    if (doomed === undefined) return
    for (let pauseMs = 2; ; pauseMs = Math.min(50, pauseMs * 2)) {
      signal.throwIfAborted()
      // Read each time: the holder may have written until its folder was moved.
      const record = await this.#state.readDoomed(id)
      if (record === undefined) break
      const { holder, init, meta } = record
      // The group: the holder with bwrap, whose death takes the first process along, and with it the namespace.
      if (holder !== undefined) await killProcess(holder, 'group')
      if (init !== undefined) await killProcess(init, 'process')
      if (meta.isolation === 'none') await runKillMarked(id)
      const alive = await Promise.all([holder, init].map(async (each) => each !== undefined && (await isAlive(each))))
      if (!alive.includes(true)) break
      await sleep(pauseMs)
    }
    await removeCgroups(doomed.meta.cgroups, signal)
    if (doomed.meta.slice !== null) {
      const tools = await this.#tools()
      // Without its manager there is no slice either: systemd ends what is in it with the manager.
      if (typeof tools?.delegation === 'object') await endSlice(tools.delegation, doomed.meta.slice)
    }
    await this.#state.removeDoomed(id, doomed.meta.user)
    await this.#state.releaseName(doomed.meta.name, id)
  }

  /** Removes what is left of sandboxes that ended without `kill`. */
  async #sweep(signal: AbortSignal): Promise<void> {
    this.#lastSweepMs = Date.now()
    for (const id of await this.#state.doomed()) await this.#end(id, signal)
    for await (const record of this.#state.records()) {
      if ((await sandboxPhase(record, Date.now())) === 'dead') await this.#end(record.meta.id, signal)
    }
    await this.#state.releaseStaleUsers()
    await removeStaleCgroups(this.name)
  }

  async #call<Result>(what: string, options: CallOptions, call: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    try {
      return await bounded(this.name, what, options, call)
    } catch (error) {
      if (options.signal?.aborted === true && error === options.signal.reason) throw error
      throw classify(this.name, what, error)
    }
  }

  #info(record: SandboxRecord): SandboxInfo {
    const { id, name, tags, createdAtMs } = record.meta
    return { id, name, tags, createdAtMs, expiresAtMs: record.expiresAtMs, lifetimeEndsAtMs: this.#lifetimeEndsAtMs(record) }
  }

  #lifetimeEndsAtMs({ meta }: SandboxRecord): number | undefined {
    const { maxLifetimeMs } = this.#config
    return maxLifetimeMs === undefined ? undefined : meta.createdAtMs + maxLifetimeMs
  }

  #error(kind: InfrastructureErrorKind, message: string): InfrastructureError {
    return new InfrastructureError({ kind, source: this.name, message: `${this.name}: ${message}` })
  }

  #lost(id: string): InfrastructureError {
    return this.#error('sandbox-lost', `sandbox ${id} is not there any more: it was killed, or its lifetime is over`)
  }
}

const killedExitCode = 137

/** Whether a sandbox's first process is there. One that is being killed loses its processes one after the other, so it is looked at for a moment where a command was killed. */
async function outlives(init: NonNullable<SandboxRecord['init']>, killed: boolean): Promise<boolean> {
  const until = performance.now() + (killed ? 250 : 0)
  while (await isAlive(init)) {
    if (performance.now() >= until) return true
    await sleep(25)
  }
  return false
}

/** How long the end of sandboxes may take where no caller says: of one that did not start, of the dead ones at `close`. */
const endingMs = 30_000

