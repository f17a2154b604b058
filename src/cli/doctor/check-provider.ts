import type { GitHost, ResolvedRef } from '../../git/index.js'
import { InfrastructureError } from '../../job/errors.js'
import { bounded, sandboxTags, type CallOptions, type Provider, type SandboxInfo, type SandboxRequest } from '../../providers/index.js'
import { createRunner, type Runner } from '../../runner/index.js'
import type { CredentialMode } from '../../consumers/transfer/credentials.js'
import type { SecretPatterns } from '../../consumers/output/secret-patterns.js'
import { installOptions } from '../../consumers/supervision/package-policy.js'
import type { ConsumerSettings } from '../../consumers/settings.js'
import { switchyardIdentity } from '../../consumers/supervision/commit-message.js'
import { createTransfer } from '../../consumers/transfer/create-transfer.js'
import type { Transfer } from '../../consumers/transfer/transfer.js'
import type { Checklist, Found } from './checklist.js'
import { killForSure, killUnanswered } from './leftovers.js'
import { providerChecks, type ProviderCheck } from './mends.js'

export interface ProviderCheckOptions {
  readonly provider: Provider
  /** Where the git host's tokens go; clone and push are made in that way. */
  readonly credentials: CredentialMode
  /** The git host's names, which some providers must know at the create. */
  readonly gitHosts: readonly string[]
  readonly deployment: string
  /** Unique to this run: part of the sandbox's tags and of the scratch branch's name. */
  readonly runId: string
  readonly image: string | undefined
  /** Where to clone from and push to, once the git host was checked; `base` is undefined when that is not to be tried. */
  readonly git: Promise<{ readonly host: GitHost | undefined; readonly base: ResolvedRef | undefined }>
  readonly repository: string | undefined
  readonly timeouts: { readonly createMs: number; readonly callMs: number; readonly gitMs: number }
  readonly settings: ConsumerSettings
  readonly secrets: SecretPatterns
  readonly signal: AbortSignal
}

/** What a call may take beyond its own deadline before it is given up, whatever the adapter does. */
const marginMs = 5_000
const stepKey = 'doctor'
/** How far a provider's clock may be off before an end that is too early counts as its plan's. */
const clockSlackMs = 60_000

/**
 * A provider, by doing what a job does, in a sandbox of its own:
 *
 *   credentials ─► create ─► exec ─► clone ─► push ─► lifetime ─► kill ─► delete branch
 *
 * A check that fails skips what stands on it. The last two are made whatever happened, an interruption included: every sandbox
 * that may have been made is killed and asked for, and then, when no push can come any more, the scratch branch is deleted.
 */
export async function checkProvider(list: Checklist, options: ProviderCheckOptions): Promise<void> {
  await new ProviderCheckup(list, options).run()
}

class ProviderCheckup {
  private readonly tags: Readonly<Record<string, string>>
  private readonly branch: string
  private stopped: string | undefined
  /** Where the scratch branch may be. */
  private pushedTo: { readonly host: GitHost; readonly repository: string } | undefined

  constructor(
    private readonly list: Checklist,
    private readonly options: ProviderCheckOptions,
  ) {
    const jobId = `doctor-${options.runId}`
    this.tags = sandboxTags({ deployment: options.deployment, runId: jobId, attempt: 1 })
    this.branch = `doctor/${options.runId}-${options.provider.name}`
  }

  async run(): Promise<void> {
    const { provider, timeouts } = this.options
    const warned = await this.step('credentials', () => this.call('check', timeouts.callMs, async (call) => ({ value: true, detail: '', warnings: await provider.check(call) })))
    const { sandbox, mayExist } = await this.create(warned === true)
    try {
      if (sandbox !== undefined) await this.inSandbox(sandbox)
    } finally {
      await this.kill(sandbox, mayExist)
      await this.deleteBranch()
    }
    const done = new Set(this.list.results.map(({ check }) => check))
    for (const check of providerChecks) if (!done.has(check)) this.list.skip(check, this.stopped ?? 'there is nothing to do')
    this.list.results.sort((one, other) => providerChecks.indexOf(one.check as ProviderCheck) - providerChecks.indexOf(other.check as ProviderCheck))
  }

  private async create(wanted: boolean): Promise<{ readonly sandbox: SandboxInfo | undefined; readonly mayExist: boolean }> {
    if (!wanted) return { sandbox: undefined, mayExist: false }
    const { provider, timeouts } = this.options
    let mayExist = false
    const sandbox = await this.step('create', async () => {
      mayExist = true
      try {
        const made = await this.call('create', timeouts.createMs, (call) => provider.create(this.request(), call))
        return { value: made, detail: made.id }
      } catch (error) {
        // See `Provider.create`: after these nothing was made.
        mayExist = !(error instanceof InfrastructureError && ['capacity', 'rate-limited', 'auth', 'invalid'].includes(error.kind))
        throw error
      }
    })
    return { sandbox, mayExist }
  }

  private async inSandbox(sandbox: SandboxInfo): Promise<void> {
    const { provider, timeouts, repository } = this.options
    const runner = createRunner({ provider, sandboxId: sandbox.id, image: this.options.image })
    const facts = await this.step('exec', async () => {
      // Without a git host it is taken for one that is reached over TLS, as all but this machine's own are.
      const { host } = await this.options.git
      const wanted = installOptions(this.options.settings, 'open', provider.capabilities, host?.hosts ?? ['git.example'])
      const installMs = wanted.packages.install ? wanted.packages.timeoutMs : 0
      const facts = await this.call('exec', timeouts.callMs + installMs, (call) => runner.install({ ...wanted, ...call, timeoutMs: timeouts.callMs }))
      const installed = facts.installed === null ? '' : `; ${facts.installed} was installed just now, which every job waits for`
      // What the account's plan takes away of what the adapter can, which some providers tell only with a sandbox.
      const warnings = await this.call('probe', timeouts.callMs, async (call) => (await provider.probe?.(sandbox.id, call)) ?? [])
      return { value: facts, detail: `as ${facts.user}, git ${facts.gitVersion}${installed}`, warnings }
    })
    if (facts !== undefined) {
      const { host, base } = await this.options.git
      if (host !== undefined && base !== undefined && repository !== undefined) await this.cloneAndPush(runner, this.transfer(runner, sandbox.id, host, repository), { host, base, repository })
      else for (const check of ['clone', 'push', 'delete branch']) this.list.skip(check, repository === undefined ? 'no --repository was given' : 'the git host failed')
    }
    if (this.stopped === undefined) await this.lifetime(sandbox)
  }

  private transfer(runner: Runner, sandboxId: string, host: GitHost, repository: string): Transfer {
    const { provider, credentials, secrets, settings, timeouts } = this.options
    return createTransfer(credentials, {
      runner,
      git: host,
      repository,
      onSecret: (value) => secrets.add(value),
      // Nobody else has this sandbox or its branch.
      confirmHeld: () => Promise.resolve(),
      injectHeaders: provider.injectHeaders?.bind(provider, sandboxId),
      settings: { callTimeoutMs: timeouts.callMs, maxPackBytes: settings.maxPackBytes },
    })
  }

  private async cloneAndPush(runner: Runner, transfer: Transfer, to: { readonly host: GitHost; readonly base: ResolvedRef; readonly repository: string }): Promise<void> {
    const { timeouts, credentials } = this.options
    const from = { ...to.base, ephemeral: false }
    const cloned = await this.step('clone', async () => {
      await this.call('clone', timeouts.gitMs, (call) => transfer.clone({ from, branch: this.branch, checkpoint: null }, call))
      return { value: true, detail: `${to.base.sha.slice(0, 12)}, credentials ${credentials}` }
    })
    if (cloned !== true) return
    await this.step('push', () => this.push(runner, transfer, to))
  }

  /** Makes a commit with a command, as an agent would, and pushes it. */
  private async push(runner: Runner, transfer: Transfer, { host, base, repository }: { readonly host: GitHost; readonly base: ResolvedRef; readonly repository: string }): Promise<Found<true>> {
    const { timeouts, runId } = this.options
    await this.call('exec', timeouts.callMs, async (call) => {
      const begin = { stdoutOffset: 0, stderrOffset: 0, waitMs: 10_000, maxBytes: 4096 }
      let { exitCode } = await runner.start({ key: stepKey, run: `echo ${runId} >switchyard-doctor.txt`, cwd: undefined, env: {} }, call, begin)
      while (exitCode === null) {
        call.signal?.throwIfAborted()
        ;({ exitCode } = await runner.read(stepKey, begin, call))
      }
      if (exitCode !== 0) throw this.error('transient', `a command that writes a file ended with ${exitCode}`)
    })
    const { sha } = await this.call('commit', timeouts.gitMs, (call) =>
      runner.commit({ message: 'Check that sandboxes can push\n', author: switchyardIdentity, committer: switchyardIdentity, dateSeconds: Math.floor(Date.now() / 1000) }, call),
    )
    this.pushedTo = { host, repository }
    await this.call('push', timeouts.gitMs, (call) => transfer.push({ sha, branch: this.branch, baseSha: base.sha, from: { ...base, ephemeral: false } }, call))
    const head = await this.call('push', timeouts.callMs, (call) => host.branchHead(repository, { name: this.branch, ephemeral: host.ephemeral }, call))
    if (head !== sha || sha === base.sha) throw this.error('transient', `the branch ${this.branch} is at ${head ?? 'nothing'} after the push of ${sha}`)
    return { value: true, detail: `${this.branch} at ${sha.slice(0, 12)}` }
  }

  /** Also when the push failed: the branch may be there. Not to be interrupted. */
  private async deleteBranch(): Promise<void> {
    if (this.pushedTo === undefined) return
    const { host, repository } = this.pushedTo
    const branch = { name: this.branch, ephemeral: host.ephemeral }
    const timeoutMs = this.options.timeouts.callMs
    await this.list.run('delete branch', async () => {
      try {
        await host.deleteBranch(repository, branch, { timeoutMs })
        const head = await host.branchHead(repository, branch, { timeoutMs })
        if (head !== null) throw this.error('transient', `it is still at ${head}`)
      } catch (error) {
        const kind = error instanceof InfrastructureError ? error.kind : 'transient'
        throw this.error(kind, `the branch ${this.branch} of ${repository} may still be there: ${error instanceof Error ? error.message : String(error)}`)
      }
      return { value: true, detail: '' }
    })
  }

  /** The longest lifetime that jobs may need. Last, so that a sandbox which is not killed all the same ends as soon as it can. */
  private async lifetime(sandbox: SandboxInfo): Promise<void> {
    const { provider, timeouts, settings } = this.options
    const { extend, maxLifetimeMs } = provider.capabilities
    if (!extend) {
      this.list.skip('lifetime', 'this provider can’t extend one')
      return
    }
    const wantedMs = maxLifetimeMs ?? settings.sandboxLifetimeMs
    await this.step('lifetime', async () => {
      const askedAtMs = Date.now()
      const lifetime = await this.call('extend', timeouts.callMs, (call) => provider.extend(sandbox.id, wantedMs, call))
      const shortMs = wantedMs - ((lifetime?.expiresAtMs ?? Infinity) - askedAtMs)
      const detail = `extended to ${Math.round(wantedMs / 1000)} s`
      if (shortMs <= clockSlackMs) return { value: true, detail }
      const given = Math.round((wantedMs - shortMs) / 1000)
      return { value: true, detail: `extended to ${given} s`, warnings: [`${wantedMs / 1000} s of lifetime were asked for, and the account's plan gives ${given} s; set maxLifetime to the plan's, or jobs lose their sandboxes there`] }
    })
  }

  private async kill(sandbox: SandboxInfo | undefined, mayExist: boolean): Promise<void> {
    if (sandbox === undefined && !mayExist) return
    const { provider, timeouts } = this.options
    const cleaning = { timeoutMs: timeouts.callMs }
    await this.list.run('kill', async () => {
      if (sandbox !== undefined) {
        await killForSure(provider, sandbox.id, cleaning)
        return { value: true, detail: '' }
      }
      const found = await killUnanswered(provider, this.tags, cleaning)
      return { value: true, detail: found.length === 0 ? 'the create made no sandbox' : `the create had made ${found.join(', ')}` }
    })
  }

  /** A check that is left out once one before it failed or the run was interrupted. */
  private async step<Value>(check: ProviderCheck, work: () => Promise<Found<Value>>): Promise<Value | undefined> {
    if (this.isInterrupted()) this.stopped ??= 'interrupted'
    if (this.stopped !== undefined) return undefined
    const value = await this.list.run(check, work)
    if (value === undefined) this.stopped = this.isInterrupted() ? 'interrupted' : `${check} failed`
    return value
  }

  private isInterrupted(): boolean {
    return this.options.signal.aborted
  }

  /** A call that ends in time and at an interruption, also where an adapter does not see to it. */
  private call<Value>(what: string, timeoutMs: number, work: (options: CallOptions) => Promise<Value>): Promise<Value> {
    const { provider, signal } = this.options
    return bounded(provider.name, what, { timeoutMs: timeoutMs + marginMs, signal }, (inner) => work({ timeoutMs, signal: inner }))
  }

  private request(): SandboxRequest {
    const { provider, runId, deployment, image, settings, gitHosts } = this.options
    return {
      name: `${deployment}-doctor-${runId}`,
      tags: this.tags,
      image,
      resources: {},
      lifetimeMs: Math.min(settings.sandboxLifetimeMs, provider.capabilities.maxLifetimeMs ?? Infinity),
      network: 'open',
      gitHosts,
    }
  }

  private error(kind: InfrastructureError['kind'], message: string): InfrastructureError {
    return new InfrastructureError({ kind, source: this.options.provider.name, message: `${this.options.provider.name}: ${message}` })
  }
}
