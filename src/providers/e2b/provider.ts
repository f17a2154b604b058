import { randomUUID } from 'node:crypto'
import type { SandboxInfo as RawInfo } from 'e2b'
import { InfrastructureError } from '../../job/errors.js'
import { bounded } from '../deadline.js'
import type { CallOptions, Capabilities, ExecResult, Lifetime, Provider, SandboxInfo, SandboxRequest, SandboxWish, ShellCommand } from '../provider.js'
import { imageOwner } from '../image-owner.js'
import { refusalOf, requestOf } from '../refusal.js'
import { classify, type ClassifyContext } from './classify.js'
import { exitCodeOf, framed, maxScriptBytes, unwrapStdout } from './command.js'
import type { E2bProviderConfig } from './config.js'
import { createParams } from './create-params.js'
import { egressWithHeaders, type InjectedHeaders } from './network.js'
import { withoutLogin } from './without-login.js'
import { connectionOptions, loadE2bSdk, readApiKey, type E2bSandbox, type E2bSdk } from './sdk.js'

/** The tag that holds a sandbox's name: E2B has no names of its own. */
const nameTag = 'switchyard-name'
/** Node fires timers beyond this at once, and so does E2B's SDK. */
const longestTimerMs = 2 ** 31 - 1
const pageSize = 100
/** Handles that are kept; one more and the oldest is forgotten, at the price of one call when it is used again. */
const maxHandles = 2000

/** When a create's outcome is unknown, the listing is asked this long after each other: it may lag. */
const searchDelaysMs = [0, 500, 1500]
/** The part of a create's time that is kept for that search. */
const searchShare = 0.25
const longestSearchMs = 10_000

/** How much E2B's clock may be behind ours before an end that is earlier than asked for counts as the plan's. */
const clockSlackMs = 5_000

/** What tests put in place of the real thing. */
export interface E2bProviderParts {
  /** Where the API key is looked up; this process's environment by default. */
  readonly environment?: NodeJS.ProcessEnv
  readonly load?: () => Promise<E2bSdk>
}

/**
 * E2B as a provider. Nothing is loaded or sent before the first call.
 *
 * Worth knowing: the environment that `exec` gives a command can be read by everything that runs in the same sandbox, in
 * `/proc` and through E2B's own process list. A cancelled or late `exec` may leave its command running.
 */
export class E2bProvider implements Provider {
  readonly kind = 'e2b'
  readonly name: string
  readonly capabilities: Capabilities
  private readonly environment: NodeJS.ProcessEnv
  private readonly handles = new Map<string, E2bSandbox>()
  /** When sandboxes end, as far as this process was told, in milliseconds since 1970: to say why one is gone. */
  private readonly ends = new Map<string, number>()
  /** In which of them a command ran, so that the configured user was there. */
  private readonly ran = new Map<string, true>()
  /** How often creates of a name were refused in this process. */
  private readonly refusals = new Map<string, number>()
  private sdk: Promise<E2bSdk> | undefined

  constructor(
    private readonly config: E2bProviderConfig,
    private readonly parts: E2bProviderParts = {},
  ) {
    this.name = config.name
    this.environment = parts.environment ?? process.env
    this.capabilities = {
      uniqueNames: false,
      extend: true,
      network: { gitOnly: true, none: true, allowList: true },
      reach: { inbound: 'nobody without the sandbox’s own token', besideLists: 'whatever goes to 8.8.8.8, where a name is let through' },
      resources: { cpu: false, memory: false, disk: false },
      maxLifetimeMs: config.maxLifetime,
      maxCommandBytes: maxScriptBytes,
    }
  }

  refusal(wish: SandboxWish): string | undefined {
    return refusalOf(() => createParams(this.config, requestOf(wish)))
  }

  /**
   * When the outcome is unknown (no answer, a broken connection, a 5xx), looks for a sandbox of that name and takes it
   * over, so that a lost answer does not lose a sandbox.
   */
  async create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    const { template, egress } = createParams(this.config, request)
    // Whoever repeats a create whose answer was lost gets the sandbox that it made; one that was refused is asked for anew.
    const refusals = this.refusals.get(request.name) ?? 0
    const key = refusals === 0 ? request.name : `${request.name}-${refusals}`
    const endsAtMs = Date.now() + options.timeoutMs
    const searchMs = Math.min(options.timeoutMs * searchShare, longestSearchMs)
    try {
      return await this.call('create', { ...options, timeoutMs: Math.ceil(options.timeoutMs - searchMs) }, async (sdk, base) => {
        const askedAtMs = Date.now()
        const handle = await sdk.Sandbox.create(template, {
          ...base,
          ...egress,
          apiHeaders: { 'Idempotency-Key': key },
          timeoutMs: request.lifetimeMs,
          metadata: { ...request.tags, [nameTag]: request.name },
        })
        this.keep(handle)
        // E2B tells of the beginning and the end only when it is asked again; nothing can have begun before it was asked to.
        const lifetime = { expiresAtMs: askedAtMs + request.lifetimeMs, lifetimeEndsAtMs: askedAtMs + this.config.maxLifetime }
        this.refusals.delete(request.name)
        return this.noted({ id: handle.sandboxId, name: request.name, tags: { ...request.tags }, createdAtMs: undefined, ...lifetime })
      }, { template: imageOwner(request) })
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      if (!['transient', 'timeout'].includes(error.kind)) {
        remember(this.refusals, request.name, refusals + 1, maxHandles)
        throw error
      }
      const found = await this.search(request.name, endsAtMs, options.signal)
      if (found === undefined) throw error
      return found
    }
  }

  async get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    const found = await this.call('get', options, async (sdk, base) => {
      try {
        return this.info(await sdk.Sandbox.getInfo(sandboxId, base))
      } catch (error) {
        if (error instanceof sdk.SandboxNotFoundError) return undefined
        throw error
      }
    })
    if (found === undefined) this.handles.delete(sandboxId)
    return found
  }

  async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    const bytes = Buffer.byteLength(command.script)
    if (bytes > maxScriptBytes) throw this.invalid('exec', `the script has ${bytes} bytes and at most ${maxScriptBytes} fit; send it in parts`)
    const endsAtMs = Date.now() + options.timeoutMs
    try {
      return await this.call('exec', options, async (sdk, base) => {
        const known = this.handles.get(sandboxId)
        try {
          return await this.run(sdk, known ?? (await this.connect(sdk, sandboxId, base)), command, base)
        } catch (error) {
          // A handle of long ago may hold an access token that is not valid any more. Nothing has run yet.
          if (!(error instanceof sdk.AuthenticationError) || known === undefined) throw error
          this.handles.delete(sandboxId)
          return await this.run(sdk, await this.connect(sdk, sandboxId, base), command, base)
        }
      }, { ranBefore: this.ran.has(sandboxId) })
    } catch (error) {
      throw await this.confirmed(error, 'exec', sandboxId, { ...options, timeoutMs: Math.max(endsAtMs - Date.now(), 1) })
    }
  }

  async kill(sandboxId: string, options: CallOptions): Promise<void> {
    await this.call('kill', options, async (sdk, base) => {
      try {
        await sdk.Sandbox.kill(sandboxId, base)
      } catch (error) {
        // A bare 404 is not E2B's own way of saying that a sandbox is gone: only its own word counts.
        if (!(error instanceof sdk.SandboxError) || error.statusCode !== 404) throw error
        const alive = await sdk.Sandbox.getInfo(sandboxId, base).then(() => true, (problem: unknown) => !(problem instanceof sdk.SandboxNotFoundError))
        if (alive) throw error
      }
    })
    this.handles.delete(sandboxId)
  }

  /** Each page has the whole of `options.timeoutMs`. Paused sandboxes count: they are there, and cost. */
  async *list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo> {
    let nextToken: string | undefined
    do {
      const page = await this.call('list', options, async (sdk, base) => {
        const paginator = sdk.Sandbox.list({
          ...base,
          limit: pageSize,
          ...(nextToken === undefined ? {} : { nextToken }),
          query: { state: ['running', 'paused'], ...(Object.keys(tags).length === 0 ? {} : { metadata: { ...tags } }) },
        })
        return { items: await paginator.nextItems(), nextToken: paginator.nextToken }
      })
      // Sandboxes are killed by what this tells: the filter of the server is not taken on trust.
      for (const item of page.items) {
        if (Object.entries(tags).every(([key, value]) => item.metadata[key] === value)) yield this.info(item)
      }
      if (page.nextToken !== undefined && page.nextToken === nextToken) throw new InfrastructureError({ kind: 'transient', source: this.name, message: `${this.name}: list: the next page is said to be the same one again` })
      nextToken = page.nextToken
    } while (nextToken !== undefined)
  }

  /**
   * Uses `connect`, which only ever lengthens a lifetime; E2B's `setTimeout` would also shorten it. E2B answers it with success also
   * where the plan gives less than was asked, so it is asked for the end that came of it.
   */
  async extend(sandboxId: string, lifetimeMs: number, options: CallOptions): Promise<Lifetime> {
    const endsAtMs = Date.now() + options.timeoutMs
    const askedMs = Math.min(lifetimeMs, this.config.maxLifetime)
    try {
      return await this.call('extend', options, async (sdk, base) => {
        const askedAtMs = Date.now()
        this.keep(await sdk.Sandbox.connect(sandboxId, { ...base, timeoutMs: askedMs }))
        const { expiresAtMs, lifetimeEndsAtMs } = this.info(await sdk.Sandbox.getInfo(sandboxId, base))
        const isClamped = expiresAtMs !== undefined && expiresAtMs < askedAtMs + askedMs - clockSlackMs
        return { expiresAtMs, lifetimeEndsAtMs: isClamped ? expiresAtMs : lifetimeEndsAtMs }
      })
    } catch (error) {
      throw await this.confirmed(error, 'extend', sandboxId, { ...options, timeoutMs: Math.max(endsAtMs - Date.now(), 1) })
    }
  }

  /**
   * E2B replaces the whole egress configuration at once, so what the sandbox may reach is read first and sent again. The values
   * can be read back through E2B's API by whoever has the API key, but not from inside the sandbox.
   */
  async injectHeaders(sandboxId: string, headers: InjectedHeaders, options: CallOptions): Promise<void> {
    const endsAtMs = Date.now() + options.timeoutMs
    const secrets = Object.values(headers).flatMap((byName) => Object.values(byName))
    try {
      await this.call('network', options, async (sdk, base) => {
        const update = egressWithHeaders(await sdk.Sandbox.getInfo(sandboxId, base), headers)
        await sdk.Sandbox.updateNetwork(sandboxId, update, base)
      }, { secrets })
    } catch (error) {
      throw await this.confirmed(error, 'network', sandboxId, { ...options, timeoutMs: Math.max(endsAtMs - Date.now(), 1) })
    }
  }

  async check(options: CallOptions): Promise<readonly string[]> {
    const templateKnown = await this.call('check', options, async (sdk, base) => {
      await sdk.Sandbox.list({ ...base, limit: 1 }).nextItems()
      return sdk.Template.exists(this.config.template, base)
    })
    return [
      // A warning and no error, because E2B can only be asked for a template's name, while its id is as good.
      ...(templateKnown ? [] : [`E2B knows no template with the name "${this.config.template}"; unless this is a template’s id, build it, or set template to another one`]),
      ...(this.environment['E2B_DEBUG']?.toLowerCase() === 'true' ? ['E2B_DEBUG is set; it is ignored, since E2B’s SDK would then make no calls'] : []),
    ]
  }

  async close(): Promise<void> {
    this.handles.clear()
  }

  private async run(sdk: E2bSdk, handle: E2bSandbox, command: ShellCommand, base: BaseOptions): Promise<ExecResult> {
    const mark = `switchyard-${randomUUID()}`
    const result = await withoutLogin(this.name, handle.commands, framed(command.script, mark))
      .run('', {
        timeoutMs: base.requestTimeoutMs,
        requestTimeoutMs: base.requestTimeoutMs,
        signal: base.signal,
        ...(command.env === undefined ? {} : { envs: { ...command.env } }),
        ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
        ...(this.config.user === undefined ? {} : { user: this.config.user }),
      })
      .catch(async (error: unknown) => {
        if (error instanceof sdk.CommandExitError) return error
        // A folder that is none, or that may not be entered: envd's sentence for that is the one for every command that does not start.
        if (error instanceof sdk.InvalidArgumentError && command.cwd !== undefined && error.message.includes('error starting process')) {
          const { exitCode } = await this.run(sdk, handle, { script: 'cd "$FOLDER"', env: { FOLDER: command.cwd } }, base)
          if (exitCode !== 0) throw this.invalid('exec', 'the working directory can’t be entered: it is no folder, or the user may not')
        }
        throw error
      })
    remember(this.ran, handle.sandboxId, true, maxHandles)
    const stdout = unwrapStdout(result.stdout, mark)
    if (stdout === undefined && result.exitCode >= 0) {
      throw this.invalid('exec', `the shell ended with exit code ${result.exitCode} before the command began; mend /bin/sh of the image, or what the job makes of it`)
    }
    return { exitCode: exitCodeOf(result.exitCode, result.error), stdout: stdout ?? '' }
  }

  /** A handle to a sandbox that this process did not make. The shortest lifetime, because it only ever lengthens. */
  private async connect(sdk: E2bSdk, sandboxId: string, base: BaseOptions): Promise<E2bSandbox> {
    try {
      return this.keep(await sdk.Sandbox.connect(sandboxId, { ...base, timeoutMs: 1000 }))
    } catch (error) {
      // It is the API that answered here, and not the sandbox.
      throw classify(error, { source: this.name, what: 'connect', apiKeyEnv: this.config.apiKeyEnv, secrets: [base.apiKey ?? ''] })
    }
  }

  private keep(handle: E2bSandbox): E2bSandbox {
    remember(this.handles, handle.sandboxId, handle, maxHandles)
    return handle
  }

  private async search(name: string, endsAtMs: number, signal: AbortSignal | undefined): Promise<SandboxInfo | undefined> {
    for (const delayMs of searchDelaysMs) {
      if (Date.now() + delayMs >= endsAtMs || signal?.aborted === true) return undefined
      await new Promise((resolve) => setTimeout(resolve, delayMs))
      try {
        for await (const found of this.list({ [nameTag]: name }, { timeoutMs: Math.max(endsAtMs - Date.now(), 1), signal })) return found
      } catch {
        return undefined // The create's own error says more. The sweep by tags finds what may be there.
      }
    }
    return undefined
  }

  /** Asks `get` before an error may stand for a lost sandbox. */
  private async confirmed(error: unknown, what: ClassifyContext['what'], sandboxId: string, options: CallOptions): Promise<unknown> {
    if (!(error instanceof InfrastructureError) || error.kind !== 'transient') return error
    const found = await this.get(sandboxId, options).catch(() => 'unknown' as const)
    if (found !== undefined) return error
    return new InfrastructureError({ kind: 'sandbox-lost', source: this.name, message: `${this.name}: ${what}: the sandbox ${sandboxId} does not exist any more${this.whyGone(sandboxId)}` })
  }

  private whyGone(sandboxId: string): string {
    const endMs = this.ends.get(sandboxId)
    if (endMs === undefined || Date.now() < endMs - clockSlackMs) return ''
    return `: its lifetime was over; a sandbox lives ${this.config.maxLifetime / 1000} s at most (maxLifetime), or as long as the account’s plan says`
  }

  private async call<Result>(
    what: ClassifyContext['what'],
    options: CallOptions,
    run: (sdk: E2bSdk, base: BaseOptions) => Promise<Result>,
    told: Partial<Pick<ClassifyContext, 'secrets' | 'template' | 'ranBefore'>> = {},
  ): Promise<Result> {
    const apiKey = readApiKey(this.config, this.environment)
    const timeoutMs = Math.min(options.timeoutMs, longestTimerMs)
    return bounded(this.name, what, { ...options, timeoutMs }, async (signal) => {
      try {
        const sdk = await (this.sdk ??= loadE2bSdk(this.name, this.parts.load))
        return await run(sdk, { ...connectionOptions(this.config, apiKey), requestTimeoutMs: timeoutMs, signal })
      } catch (error) {
        throw classify(error, { ...told, source: this.name, what, apiKeyEnv: this.config.apiKeyEnv, user: this.config.user, secrets: [apiKey, ...(told.secrets ?? [])] })
      }
    })
  }

  private info(raw: RawInfo): SandboxInfo {
    const { [nameTag]: name, ...tags } = raw.metadata
    const createdAtMs = raw.startedAt.getTime()
    return this.noted({ id: raw.sandboxId, name, tags, createdAtMs, expiresAtMs: raw.endAt.getTime(), lifetimeEndsAtMs: createdAtMs + this.config.maxLifetime })
  }

  private noted(info: SandboxInfo): SandboxInfo {
    if (info.expiresAtMs !== undefined) remember(this.ends, info.id, info.expiresAtMs, maxHandles)
    return info
  }

  private invalid(what: ClassifyContext['what'], problem: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', source: this.name, message: `${this.name}: ${what}: ${problem}` })
  }
}

type BaseOptions = ReturnType<typeof connectionOptions> & { readonly requestTimeoutMs: number; readonly signal: AbortSignal }

/** Keeps the `most` entries that were set last. */
function remember<Value>(entries: Map<string, Value>, key: string, value: Value, most: number): void {
  entries.delete(key)
  entries.set(key, value)
  const [oldest] = entries.keys()
  if (entries.size > most && oldest !== undefined) entries.delete(oldest)
}
