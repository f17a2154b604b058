import type { App, Image, Sandbox } from 'modal'
import { InfrastructureError } from '../../job/errors.js'
import { bounded } from '../deadline.js'
import type { CallOptions, Capabilities, ExecResult, Provider, SandboxInfo, SandboxRequest, ShellCommand } from '../provider.js'
import { classify, isAbort, isAlreadyExists, isNotFound, mayMeanLost, type ClassifyContext } from './classify.js'
import type { ModalProviderConfig } from './config.js'
import { execute } from './execute.js'
import { mapInOrder, SandboxHandles } from './handles.js'
import { modalNetwork } from './network.js'
import { observed, type CallObservation } from './observe-calls.js'
import { connect, readToken, testedVersion, type ModalConnection } from './sdk.js'

/** The SDK refuses commands of more than 64 KiB; what ./execute.ts puts before the script is part of it. */
const maxCommandBytes = 64 * 1024 - 128

/** How many sandboxes' tags are asked for at once where the server gives none with its listing. */
const tagLookups = 8

/** After which part of a command's time Modal is asked whether the sandbox is still there. */
const watchFraction = 0.75

export interface ModalProviderParts {
  /** Where the token is looked up. Default: `process.env`. */
  readonly environment?: NodeJS.ProcessEnv
}

interface Call extends CallObservation {
  readonly sdk: ModalConnection['sdk']
  readonly client: ModalConnection['client']
}

/**
 * Modal sandboxes (the V2 backend) through Modal's own SDK.
 *
 * - Names are unique in the app among running sandboxes: a create that finds its name taken adopts that sandbox, so a
 *   create whose answer was lost is found again and never doubled.
 * - A lifetime can't be extended: create with the full one.
 * - Nothing here holds the token: it is read from the environment when the first call is made.
 */
export class ModalProvider implements Provider {
  readonly kind = 'modal'
  readonly name: string
  readonly capabilities: Capabilities
  readonly #config: ModalProviderConfig
  readonly #environment: NodeJS.ProcessEnv
  readonly #handles = new SandboxHandles()
  readonly #images = new Map<string, Image>()
  #connection: Promise<ModalConnection> | undefined
  #app: App | undefined

  /** @param config as `modalProviderConfigSchema` gives it. Nothing is loaded or sent before the first call. */
  constructor(config: ModalProviderConfig, parts: ModalProviderParts = {}) {
    this.#config = config
    this.#environment = parts.environment ?? process.env
    this.name = this.#config.name
    this.capabilities = {
      uniqueNames: true,
      extend: false,
      network: { gitOnly: true, none: true, allowList: true },
      resources: { cpu: true, memory: true, disk: false },
      maxLifetimeMs: this.#config.maxLifetime,
      maxCommandBytes,
    }
  }

  async create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    this.#refuseImpossible(request)
    const network = modalNetwork(this.name, request)
    const { cpu, memoryMiB } = request.resources
    const imageName = request.image ?? this.#config.image
    return this.#call({ what: 'creating a sandbox', during: 'create' }, options, async (call) => {
      const app = await this.#getApp(call)
      const image = await this.#getImage(call, app, imageName)
      const startedAtMs = Date.now()
      const timeoutMs = Math.ceil(request.lifetimeMs / 1000) * 1000
      const create = () =>
        call.client.sandboxes.create(app, image, {
          name: request.name,
          tags: { ...request.tags },
          timeoutMs,
          ...network,
          ...(cpu === undefined ? {} : { cpu }),
          ...(memoryMiB === undefined ? {} : { memoryMiB }),
          ...(this.#config.regions === undefined ? {} : { regions: this.#config.regions }),
          ...(this.#config.cloud === undefined ? {} : { cloud: this.#config.cloud }),
        })
      let sandbox: Sandbox
      try {
        sandbox = await create()
      } catch (error) {
        if (!isAlreadyExists(error)) throw error
        const adopted = await this.#adopt(call, request.name)
        if (adopted !== undefined) return adopted
        // The name's holder ended in between.
        sandbox = await create()
      }
      return this.#handles.add(sandbox, {
        id: sandbox.sandboxId,
        name: request.name,
        tags: request.tags,
        createdAtMs: startedAtMs,
        expiresAtMs: startedAtMs + timeoutMs,
      })
    })
  }

  async get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    return this.#call({ what: 'looking up a sandbox', during: 'sandbox' }, options, async (call) => {
      const sandbox = await this.#handle(call, sandboxId)
      if (!(await isAlive(sandbox))) {
        this.#handles.drop(sandboxId)
        return undefined
      }
      try {
        return this.#handles.info(sandboxId) ?? this.#handles.add(sandbox, unknownSince(sandboxId, await sandbox.getTags()))
      } catch (error) {
        if (isNotFound(error)) return undefined
        throw error
      }
    })
  }

  async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    if (Buffer.byteLength(command.script) > maxCommandBytes) {
      throw this.#invalid(`a command of ${Buffer.byteLength(command.script)} bytes is over Modal's limit of ${maxCommandBytes}; write it to a file in parts`)
    }
    const secrets = Object.values(command.env ?? {})
    return this.#call({ what: 'running a command', during: 'exec', secrets }, options, async (call) => {
      const sandbox = await this.#handle(call, sandboxId)
      const lost = () => this.#lost(sandboxId)
      const watch = watchOnce(options.timeoutMs * watchFraction, async () => {
        if (!(await isAlive(sandbox))) throw lost()
      })
      try {
        const result = await Promise.race([execute(sandbox, command, { source: this.name, timeoutMs: options.timeoutMs, signal: call.signal }), watch.failed])
        // A sandbox that is killed takes its commands along, and the worker may tell of that first.
        if (result.exitCode === 137 && !(await isAlive(sandbox))) throw lost()
        return result
      } catch (error) {
        const sorted = this.#classify(error, { what: 'running a command', during: 'exec', secrets }, call)
        if (!call.signal.aborted && mayMeanLost(sorted) && (await this.#isGone(sandbox))) throw lost()
        // What the handle knows of its worker may be out of date: the next command starts afresh.
        if (mayMeanLost(sorted)) this.#handles.forget(sandboxId)
        throw sorted
      } finally {
        watch.stop()
        if (call.signal.aborted) this.#handles.forget(sandboxId)
      }
    })
  }

  async kill(sandboxId: string, options: CallOptions): Promise<void> {
    await this.#call({ what: 'killing a sandbox', during: 'sandbox' }, options, async (call) => {
      const sandbox = await this.#handle(call, sandboxId)
      try {
        await sandbox.terminate({ wait: true })
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
      this.#handles.drop(sandboxId)
    })
  }

  async *list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo> {
    yield* await this.#call({ what: 'listing sandboxes', during: 'list' }, options, async (call) => {
      const app = await this.#findApp(call)
      if (app === undefined) return []
      const sandboxes: Sandbox[] = []
      for await (const sandbox of call.client.sandboxes.list({ appId: app.appId, tags: { ...tags } })) sandboxes.push(sandbox)
      const infos = await mapInOrder(sandboxes, tagLookups, async (sandbox): Promise<SandboxInfo | undefined> => {
        const listed = call.listed.get(sandbox.sandboxId)
        const known = this.#handles.info(sandbox.sandboxId)
        try {
          return {
            id: sandbox.sandboxId,
            name: listed?.name ?? known?.name,
            tags: listed?.tags ?? known?.tags ?? (await sandbox.getTags()),
            createdAtMs: listed?.createdAtMs ?? known?.createdAtMs,
            expiresAtMs: listed?.expiresAtMs ?? known?.expiresAtMs,
          }
        } catch (error) {
          // It ended while the list was read.
          if (isNotFound(error)) return undefined
          throw error
        }
      })
      return infos.filter((info) => info !== undefined)
    })
  }

  /** Modal can't: see `capabilities.extend`. */
  async extend(_sandboxId: string, _lifetimeMs: number, _options: CallOptions): Promise<void> {
    return Promise.resolve()
  }

  async check(options: CallOptions): Promise<readonly string[]> {
    return this.#call({ what: 'checking the configuration', during: 'check' }, options, async (call) => {
      const { app, environment } = this.#config
      if (environment !== undefined) await call.client.environments.fromName(environment)
      const warnings: string[] = []
      if (call.client.version() !== testedVersion) {
        warnings.push(`${this.name}: the package "modal" is ${call.client.version()}; Switchyard was tested with ${testedVersion} only`)
      }
      if ((await this.#findApp(call)) === undefined) {
        warnings.push(`${this.name}: the app "${app}" does not exist in Modal yet; it is made with the first sandbox`)
      }
      return warnings
    })
  }

  async close(): Promise<void> {
    this.#handles.dropAll()
    this.#forgetLookups()
    const connection = await this.#connection?.catch(() => undefined)
    this.#connection = undefined
    connection?.client.close()
  }

  /**
   * The one way to the SDK: our deadline and cancellation over all of its calls, and `classify` over all of its errors.
   */
  async #call<Result>(context: Omit<ClassifyContext, 'source'>, options: CallOptions, work: (call: Call) => Promise<Result>): Promise<Result> {
    const observation: { retryAfterMs: number | undefined } = { retryAfterMs: undefined }
    try {
      return await bounded(this.name, context.what, options, async (signal) => {
        const call: Call = Object.assign(observation, { signal, listed: new Map(), ...(await this.#connect()) })
        const attempt = () => observed(call, () => work(call))
        // The SDK shares the lookup of its environment between callers: one that gives up cancels it for the others.
        return await attempt().catch((error: unknown) => (isAbort(error) && !signal.aborted ? attempt() : Promise.reject(error as Error)))
      })
    } catch (error) {
      if (options.signal?.aborted === true && !(error instanceof InfrastructureError)) throw error
      const sorted = this.#classify(error, context, observation)
      // It may be the image or the app that is gone: the next call looks them up again.
      if (sorted.kind === 'invalid') this.#forgetLookups()
      throw sorted
    }
  }

  async #connect(): Promise<ModalConnection> {
    this.#connection ??= connect(this.#config, this.#environment)
    try {
      return await this.#connection
    } catch (error) {
      // So that a token or a package that comes later is found.
      this.#connection = undefined
      throw error
    }
  }

  #classify(error: unknown, context: Omit<ClassifyContext, 'source'>, observation: { readonly retryAfterMs: number | undefined }): InfrastructureError {
    const secrets = [...(context.secrets ?? []), ...this.#tokenValues()]
    return classify(error, { ...context, source: this.name, retryAfterMs: observation.retryAfterMs, secrets })
  }

  #tokenValues(): string[] {
    try {
      return Object.values(readToken(this.#config, this.#environment))
    } catch (error) {
      if (error instanceof InfrastructureError) return []
      throw error
    }
  }

  #refuseImpossible(request: SandboxRequest): void {
    const { maxLifetime } = this.#config
    if (request.lifetimeMs > maxLifetime) {
      throw this.#invalid(`a lifetime of ${request.lifetimeMs} ms is over the limit of ${maxLifetime} ms (maxLifetime; Modal's own is 24 h); shorten the job's timeout`)
    }
    if (request.resources.diskMiB !== undefined) {
      throw this.#invalid('resources.diskMiB can’t be set at Modal; leave it out, or use a provider that can')
    }
  }

  #invalid(problem: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', source: this.name, message: `${this.name}: ${problem}` })
  }

  #lost(sandboxId: string): InfrastructureError {
    this.#handles.drop(sandboxId)
    return new InfrastructureError({ kind: 'sandbox-lost', source: this.name, message: `${this.name}: sandbox ${sandboxId} is gone; Modal says that it has ended` })
  }

  #forgetLookups(): void {
    this.#images.clear()
    this.#app = undefined
  }

  async #getApp(call: Call): Promise<App> {
    this.#app ??= await call.client.apps.fromName(this.#config.app, { createIfMissing: true })
    return this.#app
  }

  /** The app, unless there is none yet: then there are no sandboxes either. */
  async #findApp(call: Call): Promise<App | undefined> {
    if (this.#app !== undefined) return this.#app
    try {
      this.#app = await call.client.apps.fromName(this.#config.app)
      return this.#app
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  async #getImage(call: Call, app: App, name: string): Promise<Image> {
    const known = this.#images.get(name)
    if (known !== undefined) return known
    const image = name.startsWith('im-') ? await call.client.images.fromId(name) : call.client.images.fromRegistry(name)
    await image.build(app)
    this.#images.set(name, image)
    return image
  }

  async #adopt(call: Call, name: string): Promise<SandboxInfo | undefined> {
    try {
      const sandbox = await call.client.sandboxes.experimentalFromName(this.#config.app, name)
      if (!(await isAlive(sandbox))) return undefined
      return this.#handles.add(sandbox, { ...unknownSince(sandbox.sandboxId, await sandbox.getTags()), name })
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  async #handle(call: Call, sandboxId: string): Promise<Sandbox> {
    return this.#handles.get(sandboxId) ?? this.#handles.keep(await call.client.sandboxes.fromId(sandboxId))
  }

  /** Only Modal's own word counts: when it can't be asked, the sandbox is not gone. */
  async #isGone(sandbox: Sandbox): Promise<boolean> {
    return isAlive(sandbox).then(
      (alive) => !alive,
      () => false,
    )
  }
}

async function isAlive(sandbox: Sandbox): Promise<boolean> {
  try {
    return (await sandbox.poll()) === null
  } catch (error) {
    if (isNotFound(error)) return false
    throw error
  }
}

function unknownSince(id: string, tags: Readonly<Record<string, string>>): SandboxInfo {
  return { id, name: undefined, tags, createdAtMs: undefined, expiresAtMs: undefined }
}

/** Runs `check` once after a while. `failed` rejects when it does, and never resolves. */
function watchOnce(afterMs: number, check: () => Promise<void>): { readonly failed: Promise<never>; stop(): void } {
  let timer: NodeJS.Timeout | undefined
  const failed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      check().catch((error: unknown) => {
        // Modal could not be asked: the command's own deadline decides.
        if (error instanceof InfrastructureError) reject(error)
      })
    }, afterMs)
  })
  failed.catch(() => undefined)
  return { failed, stop: () => clearTimeout(timer) }
}
