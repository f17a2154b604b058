import { randomUUID } from 'node:crypto'
import type { Daytona, Sandbox } from '@daytona/sdk'
import { z } from 'zod'
import { errorMessage, InfrastructureError, type ErrorOwner, type InfrastructureErrorKind } from '../../job/errors.js'
import { bounded } from '../deadline.js'
import type { CallOptions, Capabilities, ExecResult, Lifetime, Provider, SandboxInfo, SandboxRequest, SandboxWish, ShellCommand } from '../provider.js'
import { imageOwner } from '../image-owner.js'
import { refusalOf, requestOf } from '../refusal.js'
import { classify, isBadRequest, isConflict, isNotFound, mayBeLost, type DaytonaCall } from './classify.js'
import { commandEnvironment, markVariable, maxCommandBytes, scriptVariable, shellCommandText, stdoutAfter } from './command.js'
import type { DaytonaProviderConfig } from './config.js'
import { createParams, wholeMinutes, wholeResources } from './create-params.js'
import { deleteSandbox } from './delete-sandbox.js'
import { confirmSecrets, secretProblems } from './kept-secrets.js'
import { NameEnforcement } from './name-enforcement.js'
import { NetworkTier } from './network-tier.js'
import { settleCreate } from './settle-create.js'
import { activate, makeUsable } from './snapshot.js'
import { snapshotState } from './snapshot-state.js'
import { loadDaytonaSdk, type DaytonaSdk } from './sdk.js'
import { hasEnded, isGoingOrGone, sandboxInfo } from './state.js'

/** Sandboxes whose address is kept, so that an exec is one call and not two. */
const maxKnownSandboxes = 2000
/** After this an answer is given up, whatever the SDK's own limit of a day; our deadlines are shorter as a rule. */
const requestTimeoutMs = 60_000
const executeResponse = z.object({ exitCode: z.int(), result: z.string() })

/** For tests: where the environment and the SDK come from. */
export interface DaytonaProviderParts {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly loadSdk?: () => Promise<DaytonaSdk>
}

/**
 * Daytona through its SDK, which takes no AbortSignal and waits up to a day: every call stands under our own deadline,
 * and what the SDK still does after that comes to nothing. The SDK is loaded with the first call.
 */
export class DaytonaProvider implements Provider {
  readonly kind = 'daytona'
  readonly name: string
  readonly keptSecrets: readonly string[]
  private readonly can: Capabilities
  private readonly tier: NetworkTier
  private readonly names: NameEnforcement
  private readonly env: Readonly<Record<string, string | undefined>>
  private opening: Promise<Daytona> | undefined
  private openedWith: string | undefined
  private readonly known = new Map<string, Sandbox>()

  constructor(
    private readonly config: DaytonaProviderConfig,
    private readonly parts: DaytonaProviderParts = {},
  ) {
    this.name = config.name
    this.keptSecrets = Object.keys(config.secrets ?? {})
    this.env = parts.env ?? process.env
    this.tier = new NetworkTier(config.name, () => ({ url: config.apiUrl, key: this.apiKey() ?? '' }))
    this.names = new NameEnforcement(config.name, config.enforcesNames, config.apiUrl)
    this.can = {
      uniqueNames: true,
      extend: true,
      network: { gitOnly: true, none: true, allowList: true },
      reach: { inbound: 'nobody without a preview token of the account' },
      // A snapshot has resources of its own; only an image takes the job's.
      resources: { cpu: config.image !== undefined, memory: config.image !== undefined, disk: config.image !== undefined },
      maxLifetimeMs: config.maxLifetime,
      maxCommandBytes,
    }
  }

  /** Without what the organisation's tier takes away, once that is known. */
  get capabilities(): Capabilities {
    return this.tier.isRestricted === true ? { ...this.can, network: { gitOnly: false, none: false, allowList: false } } : this.can
  }

  refusal(wish: SandboxWish): string | undefined {
    if (wish.network !== 'open' && this.tier.isRestricted === true) return this.tier.problem
    return refusalOf(() => this.params(requestOf(wish)))
  }

  /**
   * Creates a sandbox, or finds the one that bears the name: the SDK's `create` throws without an id when one poll of its
   * wait fails, although the sandbox starts, and a lost answer leaves one behind as well, which the SDK's repetition may then find
   * no room beside. So the name is looked up, unless it is certain that nothing was made. See ./settle-create.ts.
   */
  async create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo> {
    const params = this.params(request)
    if (request.network !== 'open' && this.tier.isRestricted === true) throw this.tier.refusal()
    return await this.call('create', options, async (client, signal) => {
      await confirmSecrets(client, this.config, request)
      const create = () => this.createOrFind(client, params, request, options, signal)
      const sandbox = await create().catch(async (error: unknown) => {
        const { snapshot } = this.config
        // Only the operator's own snapshot is activated: what a job names is the job's affair.
        if (snapshot === undefined || request.image !== undefined || snapshotState(errorMessage(error)) === undefined) throw error
        await makeUsable(client, this.config, snapshot, signal)
        return await create()
      })
      if (request.network !== 'open') await this.tier.confirm(sandbox, signal)
      const made = this.remember(sandbox)
      if (params.domainAllowList !== undefined) await this.names.confirm(sandbox, (script, env, timeoutMs) => this.exec(made.id, { script, env }, { timeoutMs, signal }))
      return made
    })
  }

  /** @throws InfrastructureError `invalid` for what Daytona can't do, or does not, as far as is known. */
  private params(request: SandboxRequest): ReturnType<typeof createParams> {
    const params = createParams(this.config, request)
    const { problem } = this.names
    if (params.domainAllowList !== undefined && problem !== undefined) throw this.error('invalid', problem.slice(this.name.length + 2), 'consumer-configuration')
    return params
  }

  private async createOrFind(client: Daytona, params: ReturnType<typeof createParams>, request: SandboxRequest, options: CallOptions, signal: AbortSignal): Promise<Sandbox> {
    try {
      return await client.create(params, { timeout: options.timeoutMs / 1000 })
    } catch (error) {
      const sorted = this.sort(error, 'create', request)
      // A key that is refused can't look either.
      if (sorted.kind === 'auth' || (isBadRequest(error) && (sorted.kind === 'invalid' || snapshotState(sorted.message) !== undefined))) throw sorted
      return await settleCreate(client, this.config, request, { error: sorted, existedBefore: isConflict(error) }, signal)
    }
  }

  /**
   * Asks, with one of the organisation's sandboxes, for what its tier takes away, and tries with another whether the runners enforce lists
   * of names; `capabilities` and `refusal` know it from then on.
   */
  async probe(sandboxId: string, options: CallOptions): Promise<readonly string[]> {
    const warnings = await this.call('check', options, async (_client, signal) => {
      await this.tier.ask(sandboxId, signal)
      return this.tierWarnings()
    })
    return warnings.length > 0 || this.names.isKnown ? warnings : await this.probeNames(sandboxId, options)
  }

  private async probeNames(sandboxId: string, options: CallOptions): Promise<readonly string[]> {
    const like = await this.get(sandboxId, options)
    if (like === undefined) return []
    try {
      const { id } = await this.create({ name: `${like.name ?? sandboxId}-names`, tags: like.tags, image: undefined, resources: {}, lifetimeMs: 600_000, network: ['git.example'], gitHosts: [] }, options)
      await this.kill(id, options)
      return []
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      return [this.names.problem ?? `${this.name}: whether lists of host names are enforced could not be tried: ${error.message.slice(this.name.length + 2)}`]
    }
  }

  async get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined> {
    return await this.call('get', options, async (client) => {
      const sandbox = await this.find(client, sandboxId)
      return sandbox === undefined ? undefined : sandboxInfo(sandbox)
    })
  }

  async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    const reserved = [scriptVariable, markVariable].find((name) => command.env !== undefined && name in command.env)
    if (reserved !== undefined) throw this.error('invalid', `the environment variable ${reserved} carries a part of the command itself; use another name`)
    const startedMs = Date.now()
    return await this.callSandbox('exec', sandboxId, options, async (sandbox) => {
      // The daemon's own limit, so that a command that nobody waits for any more ends as well.
      const leftMs = Math.max(options.timeoutMs - (Date.now() - startedMs), 1)
      const run = async (each: ShellCommand): Promise<ExecResult & { readonly began: boolean }> => {
        const mark = `switchyard-${randomUUID()}`
        const { exitCode, result } = executeResponse.parse(await sandbox.process.executeCommand(shellCommandText, each.cwd, commandEnvironment(each, mark), Math.ceil(leftMs / 1000)))
        const stdout = stdoutAfter(result, mark)
        return { exitCode, stdout: stdout ?? '', began: stdout !== undefined }
      }
      const { began, ...result } = await run(command)
      if (began && result.exitCode !== -1) return result
      if (!began && result.exitCode !== -1) throw this.error('invalid', 'exec failed: the sandbox\'s shell ended before the command began; mend ~/.zshenv and /etc/zshenv of the image, or what the job writes there')
      // -1: the command was never started, for want of its folder, or the outer shell itself was killed.
      if (command.cwd !== undefined) {
        const script = 'test -d "$FOLDER"'
        const folder = await run({ script, env: { FOLDER: command.cwd } })
        if (folder.exitCode === 1) {
          throw this.error('invalid', `exec failed: the working folder ${command.cwd} does not exist in the sandbox; create it first`)
        }
      }
      throw this.error('transient', 'exec failed: the sandbox could not start the command, or killed it', 'sandbox')
    })
  }

  async kill(sandboxId: string, options: CallOptions): Promise<void> {
    await this.call('kill', options, async (client, signal) => {
      const known = this.known.get(sandboxId)
      this.known.delete(sandboxId)
      await deleteSandbox(this.name, known, () => this.fetch(client, sandboxId), options.timeoutMs, signal)
    })
  }

  /** The deadline counts the provider's time, page by page, not what the caller does with an item. Errored sandboxes are among them: they cost. */
  async *list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo> {
    let leftMs = options.timeoutMs
    let pages: AsyncIterator<Sandbox> | undefined
    for (;;) {
      const startedMs = Date.now()
      const next = await this.call('list', { ...options, timeoutMs: Math.max(leftMs, 1) }, async (client) => {
        pages ??= client.list({ limit: 100, ...(Object.keys(tags).length === 0 ? {} : { labels: { ...tags } }) })
        return await pages.next()
      })
      leftMs -= Date.now() - startedMs
      if (next.done === true) return
      if (!isGoingOrGone(next.value)) yield sandboxInfo(next.value)
    }
  }

  /** Sets the sandbox's end anew, counted from now; to the longest that the organisation allows when that is shorter. */
  async extend(sandboxId: string, lifetimeMs: number, options: CallOptions): Promise<Lifetime> {
    const allowedMs = Math.min(lifetimeMs, this.config.maxLifetime ?? Infinity)
    return await this.callSandbox('extend', sandboxId, options, async (sandbox) => {
      await sandbox.setTtl(wholeMinutes(allowedMs))
      // The answer tells of nothing. An end that could not be read is not known, and the extension is made all the same.
      await sandbox.refreshData().catch(() => undefined)
      return sandboxInfo(sandbox)
    })
  }

  async check(options: CallOptions): Promise<readonly string[]> {
    return await this.call('check', options, async (client, signal) => {
      const { value: one } = (await client.list({ limit: 1 }).next()) as IteratorResult<Sandbox, undefined>
      const { snapshot } = this.config
      const warning = snapshot === undefined ? undefined : await activate(client, this.config, snapshot)
      // Any sandbox of the organisation will do. While there is none, the first one with a network policy tells.
      if (one !== undefined && !isGoingOrGone(one)) await this.tier.ask(one.id, signal)
      return [...(warning === undefined ? [] : [warning]), ...(await secretProblems(client, this.config)), ...this.tierWarnings()]
    })
  }

  async close(): Promise<void> {
    const opening = this.opening
    this.opening = undefined
    this.known.clear()
    if (opening === undefined) return
    await opening.then((client) => client[Symbol.asyncDispose]())
  }

  /** One SDK call under our deadline, its errors sorted. */
  private async call<Result>(call: DaytonaCall, options: CallOptions, work: (client: Daytona, signal: AbortSignal) => Promise<Result>): Promise<Result> {
    return await bounded(this.name, call, options, async (signal) => {
      try {
        return await work(await this.client(), signal)
      } catch (error) {
        if (signal.aborted) throw error
        throw this.sort(error, call)
      }
    })
  }

  /** A call to a sandbox that is expected to live: when it fails in a way that may mean its end, Daytona is asked. */
  private async callSandbox<Result>(
    call: DaytonaCall,
    sandboxId: string,
    options: CallOptions,
    work: (sandbox: Sandbox) => Promise<Result>,
  ): Promise<Result> {
    return await this.call(call, options, async (client) => {
      const sandbox = this.known.get(sandboxId) ?? (await this.find(client, sandboxId))
      if (sandbox === undefined) throw this.lost(sandboxId, call)
      try {
        return await work(sandbox)
      } catch (error) {
        if (!mayBeLost(error)) throw error
        this.known.delete(sandboxId)
        // When this fails too, its error says more than the first: the key is refused, or the provider is down.
        if ((await this.find(client, sandboxId)) === undefined) throw this.lost(sandboxId, call)
        const sorted = this.sort(error, call)
        // Daytona has just answered a get with the same key: what the sandbox's proxy said of credentials was not about them.
        throw sorted.kind === 'auth' ? this.unclear(call, sorted) : sorted
      }
    })
  }

  /** The sandbox as Daytona has it now; undefined when there is none or it has ended. */
  private async find(client: Daytona, sandboxId: string): Promise<Sandbox | undefined> {
    const sandbox = await this.fetch(client, sandboxId)
    if (sandbox === undefined || hasEnded(sandbox)) {
      this.known.delete(sandboxId)
      return undefined
    }
    this.keep(sandbox)
    return sandbox
  }

  private async fetch(client: Daytona, sandboxId: string): Promise<Sandbox | undefined> {
    try {
      return await client.get(sandboxId)
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw this.sort(error, 'get')
    }
  }

  private remember(sandbox: Sandbox): SandboxInfo {
    this.keep(sandbox)
    return sandboxInfo(sandbox)
  }

  private keep(sandbox: Sandbox): void {
    this.known.delete(sandbox.id)
    this.known.set(sandbox.id, sandbox)
    const [oldest] = this.known.keys()
    if (this.known.size > maxKnownSandboxes && oldest !== undefined) this.known.delete(oldest)
  }

  private async client(): Promise<Daytona> {
    const apiKey = this.apiKey()
    // The key was changed: what was made with the old one is made anew; calls under way end with it.
    if (this.opening !== undefined && this.openedWith !== apiKey) {
      this.opening = undefined
      this.known.clear()
    }
    this.openedWith = apiKey
    this.opening ??= this.open(apiKey)
    try {
      return await this.opening
    } catch (error) {
      this.opening = undefined
      throw error
    }
  }

  private async open(apiKey: string | undefined): Promise<Daytona> {
    if (apiKey === undefined || apiKey === '') {
      throw this.error('auth', `the environment variable ${this.config.apiKeyEnv} is ${apiKey === '' ? 'empty' : 'not set'}; put the Daytona API key there`, 'consumer-keys')
    }
    const sdk = await loadDaytonaSdk(this.name, this.parts.loadSdk)
    return new sdk.Daytona({
      apiKey,
      // Always given, although it may be the SDK's default: without it a .env file in the working folder that names
      // DAYTONA_API_URL as well makes the constructor throw.
      apiUrl: this.config.apiUrl,
      ...(this.config.target === undefined ? {} : { target: this.config.target }),
      requestTimeoutMs,
      // The event stream is a socket per client that outlives its calls; polling starts at 100 ms and needs none.
      // oxlint-disable-next-line typescript/no-deprecated -- there is no other word for it yet
      useDeprecatedPolling: true,
    })
  }

  private apiKey(): string | undefined {
    return this.env[this.config.apiKeyEnv]?.trim()
  }

  private sort(error: unknown, call: DaytonaCall, request?: SandboxRequest): InfrastructureError {
    const { apiKeyEnv } = this.config
    const resources = request === undefined ? undefined : wholeResources(request)
    return classify(error, { source: this.name, call, apiKeyEnv, apiKey: this.apiKey(), resources, image: request === undefined ? undefined : imageOwner(request) })
  }

  private tierWarnings(): string[] {
    return this.tier.isRestricted === true ? [this.tier.problem] : []
  }

  private lost(sandboxId: string, call: DaytonaCall): InfrastructureError {
    return this.error('sandbox-lost', `${call} failed: Daytona has no running sandbox ${sandboxId} any more`)
  }

  private unclear(call: DaytonaCall, cause: InfrastructureError): InfrastructureError {
    return this.error('transient', `${call} failed: the sandbox's proxy refused the credentials that the API accepts`, 'sandbox', cause)
  }

  private error(kind: InfrastructureErrorKind, problem: string, owner?: ErrorOwner, cause?: InfrastructureError): InfrastructureError {
    return new InfrastructureError({ kind, owner, source: this.name, message: `${this.name}: ${problem}`, cause })
  }
}
