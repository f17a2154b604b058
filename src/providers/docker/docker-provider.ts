import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { InfrastructureError } from '../../job/errors.js'
import { bounded } from '../deadline.js'
import { imageOwner } from '../image-owner.js'
import type { CallOptions, Capabilities, ExecResult, Lifetime, Provider, SandboxInfo, SandboxRequest, SandboxWish, ShellCommand } from '../provider.js'
import { refusalOf, requestOf } from '../refusal.js'
import { unsettled } from '../refused-create.js'
import { classify, type ClassifyContext } from './classify.js'
import { socketPathOf, type DockerProviderConfig } from './config.js'
import { createBody, deadlineKeyOf, extendScript, inspectSchema, isStale, leftInfo, listPath, listSchema, toInfo } from './container.js'
import { Engine, EngineError } from './engine.js'
import { Freeing, freeingBody } from './free.js'
import { Keepers } from './keeper.js'
import { markedScript, maxScriptBytes, readOutput } from './output.js'

const createdSchema = z.object({ Id: z.string() })
const execSchema = z.object({ Running: z.boolean(), ExitCode: z.number().nullish() })
const infoSchema = z.object({ MemoryLimit: z.boolean().optional(), PidsLimit: z.boolean().optional() })
/** How often the engine is asked again for what it is about to know. */
const pollMs = 50
/** Longer than an engine takes to notice that a container's first process has ended. */
const noticeMs = 300

/**
 * Containers of a Docker or Podman engine on this machine, through its API socket. What a sandbox can't reach is the engine's
 * business: a container shares the kernel, unless `runtime` names one that does not.
 *
 * Whoever may open the socket is root on the engine's machine, so no sandbox ever gets it.
 */
export class DockerProvider implements Provider {
  readonly kind = 'docker'
  readonly name: string
  readonly capabilities: Capabilities
  readonly #engine: Engine
  readonly #keepers: Keepers
  readonly #freeing: Freeing

  constructor(
    private readonly config: DockerProviderConfig,
    environment: Readonly<Record<string, string | undefined>> = process.env,
  ) {
    this.name = config.name
    this.#engine = new Engine(socketPathOf(config, environment))
    this.#keepers = new Keepers(this.#engine.socketPath, freeingBody(config.image, config.name))
    this.#freeing = new Freeing(this.#engine, config.image, config.name)
    this.capabilities = {
      uniqueNames: true,
      extend: true,
      network: { gitOnly: false, none: true, allowList: false },
      reach: { inbound: 'this machine, and the containers of the same network' },
      resources: { cpu: true, memory: true, disk: false },
      maxLifetimeMs: undefined,
      maxCommandBytes: maxScriptBytes,
    }
  }

  refusal(wish: SandboxWish): string | undefined {
    return refusalOf(() => createBody(this.config, requestOf(wish), { nowMs: 0, key: '' }))
  }

  create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    return this.#call('create', options, async (signal) => {
      const body = createBody(this.config, request, { nowMs: Date.now(), key: randomBytes(32).toString('hex') })
      const id = await this.#claim(request, body, signal)
      try {
        // 304, and so no error, when another create of the same name has started it.
        await this.#engine.call('POST', `/containers/${id}/start`, signal)
      } catch (error) {
        // One that was never started has no lifetime either. What keeps it from starting, a full disk for one, may keep it from going too.
        await this.#end(id, AbortSignal.timeout(options.timeoutMs)).catch(() => {
          throw unsettled(this.#sorted(error, 'create', imageOwner(request)))
        })
        throw error
      }
      this.#keepers.watch(id, request.lifetimeMs)
      const started = await this.#inspect(id, signal)
      if (started !== undefined) return started
      throw this.#error('invalid', 'create', 'the container ended at once; its image needs /bin/sh, date, cat and sleep', imageOwner(request))
    }, imageOwner(request))
  }

  get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    return this.#call('get', options, (signal) => this.#inspect(sandboxId, signal))
  }

  exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    return this.#exec('exec', sandboxId, command, options)
  }

  kill(sandboxId: string, options: CallOptions): Promise<void> {
    return this.#call('kill', options, (signal) => this.#end(sandboxId, signal))
  }

  async *list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo> {
    const found = await this.#call('list', options, (signal) => this.#freeing.during({ what: 'starts' }, this.#engine.json(listSchema, 'GET', listPath(this.name, tags), signal)))
    for (const { Id, Names, Created, State, Labels } of found) {
      const info = leftInfo(this.name, { id: Id, name: Names[0] ?? '', createdAtMs: Created * 1000, state: State, labels: Labels })
      // Sandboxes are killed by what this tells: the engine's filter is not taken on trust.
      if (info !== undefined && Object.entries(tags).every(([key, value]) => info.tags[key] === value)) yield info
    }
  }

  async extend(sandboxId: string, lifetimeMs: number, options: CallOptions): Promise<Lifetime | undefined> {
    const key = await this.#call('extend', options, async (signal) => deadlineKeyOf(await this.#look(sandboxId, signal)))
    if (key !== undefined) this.#keepers.watch(sandboxId, lifetimeMs)
    const seconds = Math.ceil((Date.now() + lifetimeMs) / 1000)
    const { exitCode } = await this.#exec('extend', sandboxId, { script: extendScript(seconds, key) }, options)
    if (exitCode !== 0) throw this.#error('transient', 'extend', `the deadline could not be written in the container (exit code ${exitCode})`)
    return undefined
  }

  check(options: CallOptions): Promise<readonly string[]> {
    return this.#call('check', options, async (signal) => {
      const info = await this.#engine.json(infoSchema, 'GET', '/info', signal)
      const image = this.config.image.split('/').map(encodeURIComponent).join('/')
      await this.#engine.json(z.looseObject({}), 'GET', `/images/${image}/json`, signal).catch((error: unknown) => {
        if (!(error instanceof EngineError) || error.status !== 404) throw error
        throw this.#error('invalid', 'check', `the engine does not have the image "${this.config.image}"; pull or build it there, or set image to another one`)
      })
      return [
        ...(info.MemoryLimit === false ? ['the engine can’t limit memory on this machine: one sandbox may take all of it'] : []),
        ...(info.PidsLimit === false ? ['the engine can’t limit processes on this machine: one sandbox may take all of them'] : []),
        ...(this.config.network === 'host' ? ['network is "host": sandboxes reach what listens on this machine’s loopback'] : []),
      ]
    })
  }

  /** Nothing is open between calls. */
  async close(): Promise<void> {}

  /** Makes the container, or finds the one that has the name. What an earlier create of that name left, and what can't be a sandbox any more, is removed. */
  async #claim({ name, lifetimeMs }: SandboxRequest, body: Record<string, unknown>, signal: AbortSignal): Promise<string> {
    for (;;) {
      try {
        return (await this.#engine.json(createdSchema, 'POST', `/containers/create?name=${encodeURIComponent(name)}`, signal, body)).Id
      } catch (error) {
        // Podman says it with a 500.
        if (!(error instanceof EngineError) || (error.status !== 409 && !/already in use/.test(error.message))) throw error
      }
      const raw = await this.#look(name, signal)
      if (raw !== undefined) {
        const found = { id: raw.Id, name: raw.Name, createdAtMs: 0, state: raw.State.Status, labels: raw.Config.Labels }
        if (leftInfo(this.name, { ...found, state: 'running' }) === undefined) {
          throw this.#error('invalid', 'create', `a container that is not this provider's has the name "${name}"; remove it, or give the deployment another name`)
        }
        if (toInfo(this.name, found) !== undefined && !isStale(raw, lifetimeMs, Date.now())) return raw.Id
        if (leftInfo(this.name, found) !== undefined) await this.#end(raw.Id, signal)
      }
      await sleep(pollMs, undefined, { signal })
    }
  }

  async #inspect(id: string, signal: AbortSignal): Promise<SandboxInfo | undefined> {
    const raw = await this.#look(id, signal)
    return raw && toInfo(this.name, { id: raw.Id, name: raw.Name, createdAtMs: Date.parse(raw.Created), state: raw.State.Status, labels: raw.Config.Labels })
  }

  /** Whatever has that id or name, in any state; undefined when the engine knows of none. */
  async #look(idOrName: string, signal: AbortSignal): Promise<z.output<typeof inspectSchema> | undefined> {
    for (;;) {
      try {
        return await this.#freeing.during({ what: 'starts' }, this.#engine.json(inspectSchema, 'GET', `/containers/${encodeURIComponent(idOrName)}/json`, signal))
      } catch (error) {
        if (!(error instanceof EngineError)) throw error
        if (error.status === 404) return undefined
        // Podman in the middle of a removal. Its next answer is its word on whether the container is gone.
        if (error.status !== 500 || !/no such container/i.test(error.message)) throw error
      }
      await sleep(pollMs, undefined, { signal })
    }
  }

  /** Kills the container and waits until the engine knows of none: a removal may be under way already. */
  async #end(id: string, signal: AbortSignal): Promise<void> {
    const path = `/containers/${encodeURIComponent(id)}`
    for (;;) {
      try {
        await this.#freeing.during({ what: 'all', id }, this.#engine.call('DELETE', `${path}?force=true&v=true`, signal))
      } catch (error) {
        if (!(error instanceof EngineError)) throw error
        if (error.status === 404) break
        // 409, and Podman's 500, while somebody else removes it.
        if (error.status !== 409 && (await this.#inspect(id, signal)) !== undefined) throw error
      }
      if ((await this.#look(id, signal)) === undefined) break
      await sleep(pollMs, undefined, { signal })
    }
    this.#keepers.end(id)
  }

  async #exec(what: 'exec' | 'extend', sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    const bytes = Buffer.byteLength(command.script)
    if (bytes > maxScriptBytes) throw this.#error('invalid', what, `the script has ${bytes} bytes and at most ${maxScriptBytes} fit; send it in parts`)
    const endsAtMs = Date.now() + options.timeoutMs
    const confirm = () => this.get(sandboxId, { ...options, timeoutMs: Math.max(endsAtMs - Date.now(), 1) })
    const lost = () => this.#error('sandbox-lost', what, `the sandbox ${sandboxId} does not exist any more`)
    try {
      const result = await this.#call('exec', options, (signal) => this.#run(sandboxId, command, signal))
      // Killed by itself, or because its container ended under it. The engine takes a moment to notice the second.
      for (const waitMs of result.exitCode === 137 ? [0, noticeMs] : []) {
        await sleep(waitMs)
        if ((await confirm()) === undefined) throw lost()
      }
      return result
    } catch (error) {
      if (!(error instanceof InfrastructureError) || error.kind !== 'transient') throw error
      const found = await confirm().catch(() => 'unknown' as const)
      throw found === undefined ? lost() : error
    }
  }

  async #run(sandboxId: string, command: ShellCommand, signal: AbortSignal): Promise<ExecResult> {
    const mark = `switchyard-${randomUUID()}`
    const freeing = this.#freeing.begin({ what: 'starts', id: sandboxId })
    try {
      return await this.#runMarked(sandboxId, command, mark, () => clearInterval(freeing), signal)
    } finally {
      clearInterval(freeing)
    }
  }

  /** @param begun called when the command has begun. */
  async #runMarked(sandboxId: string, command: ShellCommand, mark: string, begun: () => void, signal: AbortSignal): Promise<ExecResult> {
    const { Id } = await this.#engine.json(createdSchema, 'POST', `/containers/${encodeURIComponent(sandboxId)}/exec`, signal, {
      AttachStdout: true,
      Cmd: ['/bin/sh', '-c', markedScript(command.script, mark, command.cwd)],
      Env: Object.entries(command.env ?? {}).map(([name, value]) => `${name}=${value}`),
      ...(command.cwd === undefined ? {} : { WorkingDir: command.cwd }),
    })
    const { stdout, complaint } = await readOutput(await this.#engine.stream('POST', `/exec/${Id}/start`, signal, { Detach: false, Tty: false }), mark, begun)
    for (;;) {
      const state = await this.#engine.json(execSchema, 'GET', `/exec/${Id}/json`, signal)
      if (!state.Running && stdout !== undefined && typeof state.ExitCode === 'number') return { exitCode: state.ExitCode, stdout }
      if (!state.Running) {
        if (command.cwd !== undefined && /chdir|cwd|no such file/i.test(complaint)) throw this.#error('invalid', 'exec', 'the working directory does not exist in the sandbox')
        throw this.#error('transient', 'exec', 'the engine could not start the command in the container: its shell does not begin, or not as one', 'sandbox')
      }
      // A command may close its output before it ends.
      await sleep(pollMs, undefined, { signal })
    }
  }

  async #call<Result>(what: ClassifyContext['what'], options: CallOptions, run: (signal: AbortSignal) => Promise<Result>, image?: ClassifyContext['image']): Promise<Result> {
    return bounded(this.name, what, options, async (signal) => {
      try {
        return await run(signal)
      } catch (error) {
        throw this.#sorted(error, what, image)
      }
    })
  }

  #sorted(error: unknown, what: ClassifyContext['what'], image?: ClassifyContext['image']): InfrastructureError {
    return classify(error, { source: this.name, what, socketPath: this.#engine.socketPath, image, user: this.config.user })
  }

  #error(kind: InfrastructureError['kind'], what: ClassifyContext['what'], problem: string, owner?: ClassifyContext['image']): InfrastructureError {
    return new InfrastructureError({ kind, owner, source: this.name, message: `${this.name}: ${what}: ${problem}` })
  }
}
