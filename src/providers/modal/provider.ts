import type { Sandbox } from 'modal'
import { InfrastructureError } from '../../job/errors.js'
import type { CallOptions, Capabilities, ExecResult, Lifetime, Provider, SandboxInfo, SandboxRequest, SandboxWish, ShellCommand } from '../provider.js'
import { unsettled } from '../refused-create.js'
import { imageOwner } from '../image-owner.js'
import { refusalOf, requestOf } from '../refusal.js'
import { ModalCalls, type Call, type CallContext, type ModalProviderParts } from './calls.js'
import { isAlreadyExists, isNotFound, mayMeanLost } from './classify.js'
import type { ModalProviderConfig } from './config.js'
import { createParams } from './create-params.js'
import { execute } from './execute.js'
import { mapInOrder, SandboxHandles } from './handles.js'
import { Lookups } from './lookups.js'
import { outboundPolicy, type InjectedHeaders } from './outbound-policy.js'
import { testedVersion } from './sdk.js'
import { watchOnce } from './watch.js'

/** The SDK refuses commands of more than 64 KiB; what ./execute.ts puts before the script is part of it. */
const maxCommandBytes = 64 * 1024 - 128

/** How many sandboxes' tags are asked for at once where the server gives none with its listing. */
const tagLookups = 8

/** After which part of a command's time Modal is asked whether the sandbox is still there. */
const watchFraction = 0.75

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
  /** Only where the configuration says `injectHeaders`: Modal takes no headers for a sandbox that was created without any. */
  readonly injectHeaders?: (sandboxId: string, headers: InjectedHeaders, options: CallOptions) => Promise<void>
  readonly #config: ModalProviderConfig
  readonly #calls: ModalCalls
  readonly #lookups: Lookups
  readonly #handles = new SandboxHandles()

  /** @param config as `modalProviderConfigSchema` gives it. Nothing is loaded or sent before the first call. */
  constructor(config: ModalProviderConfig, parts: ModalProviderParts = {}) {
    this.#config = config
    this.#calls = new ModalCalls(config, parts, () => {
      this.#handles.forgetAll()
      this.#lookups.forget()
    })
    this.#lookups = new Lookups(config.app)
    this.name = config.name
    this.capabilities = {
      uniqueNames: true,
      extend: false,
      network: { gitOnly: true, none: true, allowList: true },
      reach: { inbound: 'nobody: no tunnel is opened' },
      resources: { cpu: true, memory: true, disk: false },
      maxLifetimeMs: config.maxLifetime,
      maxCommandBytes,
    }
    if (config.injectHeaders) this.injectHeaders = (sandboxId, headers, options) => this.#injectHeaders(sandboxId, headers, options)
  }

  refusal(wish: SandboxWish): string | undefined {
    return refusalOf(() => createParams(this.#config, requestOf(wish), wish.injectsHeaders))
  }

  async create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    const params = createParams(this.#config, request)
    const named = { name: request.image ?? this.#config.image, owner: imageOwner(request) }
    return this.#run({ what: 'creating a sandbox', during: 'create', image: named }, options, async (call) => {
      const app = await this.#lookups.app(call)
      const image = await this.#lookups.image(call, app, request.image ?? this.#config.image)
      const startedAtMs = Date.now()
      const withPolicy = params.takesOutboundPolicy ? { experimentalOutboundPolicy: outboundPolicy(call.sdk, {}) } : {}
      const create = () => call.client.sandboxes.create(app, image, { ...params.params, ...withPolicy })
      let sandbox: Sandbox
      try {
        sandbox = await create()
      } catch (error) {
        // The SDK repeats a create that was not answered. What it says in the end, "no room" for one, says nothing of the first try.
        const taken = isAlreadyExists(error)
        if (!taken && !['capacity', 'rate-limited'].includes(call.sort(error).kind)) throw error
        const adopted = await this.#adopt(call, request.name).catch((unknown: unknown) => {
          throw unsettled(call.sort(taken ? unknown : error))
        })
        if (adopted !== undefined) return adopted
        if (!taken) throw error
        // The name's holder ended in between.
        sandbox = await create()
      }
      return this.#handles.add(sandbox, {
        id: sandbox.sandboxId,
        name: request.name,
        tags: request.tags,
        createdAtMs: startedAtMs,
        ...lifetimeUntil(startedAtMs + params.params.timeoutMs),
      })
    })
  }

  async get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    return this.#run({ what: 'looking up a sandbox', during: 'sandbox' }, options, async (call) => {
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
    const bytes = Buffer.byteLength(command.script)
    if (bytes > maxCommandBytes) {
      const message = `${this.name}: a command of ${bytes} bytes is over Modal's limit of ${maxCommandBytes}; write it to a file in parts`
      throw new InfrastructureError({ kind: 'invalid', source: this.name, message })
    }
    const context: CallContext = { what: 'running a command', during: 'exec', secrets: Object.values(command.env ?? {}) }
    return this.#inSandbox(context, sandboxId, options, async (call, sandbox, confirmAlive) => {
      const watch = watchOnce(options.timeoutMs * watchFraction, confirmAlive)
      try {
        const running = execute(sandbox, command, { source: this.name, timeoutMs: options.timeoutMs, signal: call.signal })
        const result = await Promise.race([running, watch.failed])
        // A sandbox that is killed takes its commands along, and the worker may tell of that first.
        if (result.exitCode === 137) await confirmAlive()
        return result
      } finally {
        watch.stop()
      }
    })
  }

  async kill(sandboxId: string, options: CallOptions): Promise<void> {
    await this.#run({ what: 'killing a sandbox', during: 'sandbox' }, options, async (call) => {
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
    yield* await this.#run({ what: 'listing sandboxes', during: 'list' }, options, async (call) => {
      const app = await this.#lookups.existingApp(call)
      if (app === undefined) return []
      const sandboxes: Sandbox[] = []
      for await (const sandbox of call.client.sandboxes.list({ appId: app.appId, tags: { ...tags } })) sandboxes.push(sandbox)
      const infos = await mapInOrder(sandboxes, tagLookups, (sandbox) => this.#describe(call, sandbox))
      return infos.filter((info) => info !== undefined)
    })
  }

  /** Modal can't: see `capabilities.extend`. */
  async extend(sandboxId: string, _lifetimeMs: number, _options: CallOptions): Promise<Lifetime | undefined> {
    return Promise.resolve(this.#handles.info(sandboxId))
  }

  async check(options: CallOptions): Promise<readonly string[]> {
    return this.#run({ what: 'checking the configuration', during: 'check' }, options, async (call) => {
      const { app, environment } = this.#config
      if (environment !== undefined) await call.client.environments.fromName(environment)
      const warnings: string[] = []
      if (call.client.version() !== testedVersion) {
        warnings.push(`${this.name}: the package "modal" is ${call.client.version()}; Switchyard was tested with ${testedVersion} only`)
      }
      if ((await this.#lookups.existingApp(call)) === undefined) {
        warnings.push(`${this.name}: the app "${app}" does not exist in Modal yet; it is made with the first sandbox`)
      }
      return warnings
    })
  }

  async close(): Promise<void> {
    this.#handles.dropAll()
    this.#lookups.forget()
    await this.#calls.close()
  }

  async #injectHeaders(sandboxId: string, headers: InjectedHeaders, options: CallOptions): Promise<void> {
    const secrets = Object.values(headers).flatMap((byName) => Object.values(byName))
    await this.#inSandbox({ what: 'injecting headers', during: 'inject', secrets }, sandboxId, options, async (call, sandbox) => {
      await sandbox.experimentalUpdateOutboundPolicy(outboundPolicy(call.sdk, headers))
    })
  }

  async #run<Result>(context: CallContext, options: CallOptions, work: (call: Call) => Promise<Result>): Promise<Result> {
    try {
      return await this.#calls.run(context, options, work)
    } catch (error) {
      // It may be the image or the app that is gone: the next call looks them up again.
      if (error instanceof InfrastructureError && error.kind === 'invalid') this.#lookups.forget()
      throw error
    }
  }

  /** Work on a sandbox's worker, whose errors may mean that the sandbox is gone: then Modal's API is asked. */
  async #inSandbox<Result>(
    context: CallContext,
    sandboxId: string,
    options: CallOptions,
    work: (call: Call, sandbox: Sandbox, confirmAlive: () => Promise<void>) => Promise<Result>,
  ): Promise<Result> {
    return this.#run(context, options, async (call) => {
      const sandbox = await this.#handle(call, sandboxId)
      const confirmAlive = async () => {
        if (await isAlive(sandbox)) return
        this.#handles.drop(sandboxId)
        const message = `${this.name}: sandbox ${sandboxId} is gone; Modal says that it has ended`
        throw new InfrastructureError({ kind: 'sandbox-lost', source: this.name, message })
      }
      try {
        return await work(call, sandbox, confirmAlive)
      } catch (error) {
        const sorted = call.sort(error)
        if (call.signal.aborted || mayMeanLost(sorted)) {
          // What the handle knows of its worker may be out of date: the next command starts afresh.
          this.#handles.forget(sandboxId)
          if (!call.signal.aborted) await onlyLost(confirmAlive)
        }
        throw sorted
      }
    })
  }

  async #describe(call: Call, sandbox: Sandbox): Promise<SandboxInfo | undefined> {
    const listed = call.listed.get(sandbox.sandboxId)
    const known = this.#handles.info(sandbox.sandboxId)
    try {
      return {
        id: sandbox.sandboxId,
        name: listed?.name ?? known?.name,
        tags: listed?.tags ?? known?.tags ?? (await sandbox.getTags()),
        createdAtMs: listed?.createdAtMs ?? known?.createdAtMs,
        ...lifetimeUntil(listed?.expiresAtMs ?? known?.expiresAtMs),
      }
    } catch (error) {
      // It ended while the list was read.
      if (isNotFound(error)) return undefined
      throw error
    }
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
}

async function isAlive(sandbox: Sandbox): Promise<boolean> {
  try {
    return (await sandbox.poll()) === null
  } catch (error) {
    if (isNotFound(error)) return false
    throw error
  }
}

/** Only Modal's own word counts: when it can't be asked, the first error stands. */
async function onlyLost(confirmAlive: () => Promise<void>): Promise<void> {
  try {
    await confirmAlive()
  } catch (error) {
    if (error instanceof InfrastructureError) throw error
  }
}

/** The lifetime that a sandbox was created with is all that it gets. */
function lifetimeUntil(endMs: number | undefined): Lifetime {
  return { expiresAtMs: endMs, lifetimeEndsAtMs: endMs }
}

function unknownSince(id: string, tags: Readonly<Record<string, string>>): SandboxInfo {
  return { id, name: undefined, tags, createdAtMs: undefined, expiresAtMs: undefined }
}
