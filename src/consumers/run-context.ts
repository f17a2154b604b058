import type { Logger } from 'pino'
import type { GitHost } from '../git/host.js'
import { FenceLostError } from '../job/errors.js'
import type { JobError, Attempt } from '../job/result.js'
import type { LogChunk } from '../job/log.js'
import type { RunRecord } from '../job/run-record.js'
import type { JobSpec } from '../job/spec.js'
import type { Capabilities, Provider } from '../providers/provider.js'
import type { RunnerProvider } from '../runner/calls.js'
import type { Runner } from '../runner/runner.js'
import type { RunStore } from '../store/run-store.js'
import type { CancelRequest } from '../store/stored-run.js'
import type { ProviderLimit, ProviderLoad } from '../store/provider-load.js'
import type { ReadyJobs } from '../store/ready-jobs.js'
import type { SlotLedger } from '../store/slot-ledger.js'
import type { SlotOwner, SlotOwners } from '../store/slot-owners.js'
import type { BoardLog } from './board-log.js'
import type { CredentialMode } from './credentials.js'
import type { Exclusions, PlacementPolicy, ProviderPrice } from './placement.js'
import { unansweredCreateMs } from './reap-decision.js'
import type { ResolvedSecrets } from './secrets.js'
import type { ConsumerSettings } from './settings.js'
import type { SlotWaits } from './slot-waits.js'
import type { StartReports } from './start-reports.js'
import { createTransfer } from './transfer/create-transfer.js'
import type { SavedCommit, Transfer } from './transfer/transfer.js'

/** A configured provider with its limit. */
export interface ProviderSlot {
  readonly provider: Provider
  readonly limit: Omit<ProviderLimit, 'provider'>
  /** For the policy `cheapest`. */
  readonly price?: ProviderPrice | undefined
  /** Where the git host's tokens go. Default `minted`. */
  readonly credentials?: CredentialMode | undefined
}

/** What all jobs of a consumer share. */
export interface ConsumerContext {
  readonly deployment: string
  /** This consumer's id, which holds leases and inboxes. */
  readonly holder: string
  readonly store: RunStore
  readonly ledger: SlotLedger
  readonly ready: ReadyJobs
  readonly owners: SlotOwners
  readonly waits: SlotWaits
  readonly starts: StartReports
  readonly git: GitHost
  /** In the order of the configuration. */
  readonly providers: ReadonlyMap<string, ProviderSlot>
  readonly policy: PlacementPolicy
  readonly settings: ConsumerSettings
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Has the reaper look at a provider where something was left behind. */
  readonly reapSoon: (provider: string, delayMs: number) => void
  readonly runnerFor: (provider: RunnerProvider, sandboxId: string, image: string | undefined) => Runner
}

/** Why the work on a job is broken off. */
export type Interruption = { readonly kind: 'cancel'; readonly reason: string } | { readonly kind: 'timeout' }

/**
 * One job under this consumer's supervision. `record` is what Redis holds, or will with the next save; it changes only
 * through `update` and `append`, which check the fence, and `amend`, which waits for one of them.
 */
export class RunContext {
  /** Aborts when the job's work must be broken off: cancel, timeout, or this consumer leaving it. */
  readonly work: AbortSignal
  /**
   * Aborts on cancel and on leaving. For what is still done after a job's work was broken off or has failed: saving it, asking
   * after its sandbox, waiting to try again.
   */
  readonly aftermath: AbortSignal
  readonly exclusions = new Map<string, { untilMs: number; why: string }>()
  /** How often each provider turned this job away in a row. */
  readonly refusals = new Map<string, number>()
  private readonly interruptions = new AbortController()
  private readonly cancelling = new AbortController()
  private interrupted: Interruption | null = null
  private loadsWithoutPlace: readonly ProviderLoad[] | null = null

  constructor(
    readonly shared: ConsumerContext,
    readonly jobId: string,
    readonly spec: JobSpec,
    readonly fence: number,
    private current: RunRecord,
    readonly secrets: ResolvedSecrets,
    readonly boardLog: BoardLog,
    /** Aborts when this consumer must leave the job alone: hand-over, or its fence or lease is lost. */
    readonly leave: AbortSignal,
    /** Whether the record's intent to create was written just now by this consumer: no call was made for it. */
    private freshIntent: boolean,
    private readonly holds: () => boolean,
  ) {
    this.work = AbortSignal.any([leave, this.interruptions.signal])
    this.aftermath = AbortSignal.any([leave, this.cancelling.signal])
  }

  /** The job has given its place up; `loads` is what the providers held then. */
  placeGivenUp(loads: readonly ProviderLoad[]): void {
    this.loadsWithoutPlace = loads
  }

  /** Those loads, once; null when the job may hold a place. */
  useLoadsWithoutPlace(): readonly ProviderLoad[] | null {
    const loads = this.loadsWithoutPlace
    this.loadsWithoutPlace = null
    return loads
  }

  /** That, once: what follows makes the call. */
  useFreshIntent(): boolean {
    const { freshIntent } = this
    this.freshIntent = false
    return freshIntent
  }

  get record(): RunRecord {
    return this.current
  }

  get interruption(): Interruption | null {
    return this.interrupted
  }

  /** Breaks off the work; the first reason stays, but a cancel counts more than a timeout. */
  interrupt(interruption: Interruption): void {
    if (this.interrupted !== null && (this.interrupted.kind === 'cancel' || interruption.kind === 'timeout')) return
    this.interrupted = interruption
    this.interruptions.abort(new Error(interruption.kind))
    if (interruption.kind === 'cancel') this.cancelling.abort(new Error('cancel'))
  }

  /**
   * Asked right before anything that changes the world outside of Redis (a create, a command, a push, a promotion, a kill): a
   * process that was frozen wakes up anywhere, and must not go on with a job that is another one's by now.
   * @throws FenceLostError when this consumer's lease has run out.
   */
  assertHeld(): void {
    if (!this.holds()) throw new FenceLostError(this.jobId)
  }

  /**
   * As `assertHeld`, by Redis' own word: asked right before commits go to the git host, so that two consumers never push for one job.
   * @throws FenceLostError when another consumer supervises the job now.
   */
  async confirmHeld(): Promise<void> {
    await this.update({})
    this.assertHeld()
  }

  /** When the job's time is up, in milliseconds since 1970. */
  get deadlineMs(): number {
    return (this.current.restart?.atMs ?? this.current.startedAtMs) + this.spec.timeoutMs
  }

  /** Writes the record. @throws FenceLostError when another consumer supervises the job now. */
  async update(patch: Partial<RunRecord>, reason: string | null = null): Promise<void> {
    this.current = { ...this.current, ...patch }
    this.heed(await this.shared.store.save(this.jobId, this.fence, this.current, reason))
  }

  /** Changes the record; the next write takes it along. Only where nothing but that write comes next. */
  amend(patch: Partial<RunRecord>): void {
    this.current = { ...this.current, ...patch }
  }

  /** Writes the record and the output that it accounts for, in one step. */
  async append(patch: Partial<RunRecord>, chunks: readonly LogChunk[]): Promise<void> {
    this.current = { ...this.current, ...patch }
    this.heed(await this.shared.store.append(this.jobId, this.fence, this.current, chunks))
    this.boardLog.add(chunks)
  }

  /** A line of Switchyard's own in the job's log. */
  async say(text: string): Promise<void> {
    const data = Buffer.from(`${this.secrets.patterns.mask(text)}\n`)
    await this.append({}, [{ step: 'switchyard', stream: 'system', attempt: this.record.attempts.length, offset: 0, data }])
  }

  /** The attempt under way, changed. */
  patchAttempt(patch: Partial<Attempt>): Attempt[] {
    const attempts = [...this.record.attempts]
    const last = attempts.pop()
    return last === undefined ? [] : [...attempts, { ...last, ...patch }]
  }

  /** An error as the record may hold it: without secrets. */
  masked(error: JobError): JobError {
    return { kind: error.kind, message: this.secrets.patterns.mask(error.message) }
  }

  /** Frees this job's place, if it holds one and this consumer still holds the job. */
  async releasePlace(): Promise<void> {
    await this.shared.ledger.releaseOf(this.jobId, this.fence)
  }

  /** Leaves this job's place, if it holds one, to what may still live at its provider; the reaper frees it once that is dead. */
  async entrustPlace(provider: string, owner: Exclude<SlotOwner, { kind: 'job' }>): Promise<void> {
    await this.shared.owners.entrust({ jobId: this.jobId, fence: this.fence }, owner)
    this.shared.reapSoon(provider, owner.kind === 'create' ? unansweredCreateMs : this.shared.settings.callTimeoutMs)
  }

  exclude(provider: string, untilMs: number, why: string): void {
    this.exclusions.set(provider, { untilMs, why })
  }

  activeExclusions(): Exclusions {
    return this.exclusions
  }

  /** The sandbox that the record names. A phase that needs one is never entered without. */
  sandbox(): { readonly runner: Runner; readonly transfer: Transfer; readonly capabilities: Capabilities } {
    const { sandbox } = this.record
    if (sandbox === null) throw new Error(`run ${this.jobId}: phase ${this.record.phase} without a sandbox`)
    const slot = this.shared.providers.get(sandbox.provider)
    if (slot === undefined) throw new UnconfiguredProviderError(sandbox.provider)
    const { provider, credentials = 'minted' } = slot
    const guarded: RunnerProvider = {
      name: provider.name,
      capabilities: provider.capabilities,
      exec: async (...call) => {
        this.assertHeld()
        return await provider.exec(...call)
      },
    }
    const runner = this.shared.runnerFor(guarded, sandbox.id, this.spec.image)
    const transfer = createTransfer(credentials, {
      runner,
      git: this.shared.git,
      repository: this.spec.repository,
      onSecret: (value) => this.secrets.patterns.add(value),
      injectHeaders: provider.injectHeaders?.bind(provider, sandbox.id),
      confirmHeld: () => this.confirmHeld(),
      settings: this.shared.settings,
    })
    return { runner, transfer, capabilities: provider.capabilities }
  }

  /** The last commit of the job that the git host has: what the work goes on from. */
  savedCommit(): SavedCommit {
    const { base, checkpoint } = this.record
    if (base === null) throw new Error(`run ${this.jobId}: phase ${this.record.phase} without a base`)
    if (typeof checkpoint?.branch !== 'string') return { ...base, ephemeral: false }
    return { sha: checkpoint.sha, ref: `refs/heads/${checkpoint.branch}`, ephemeral: this.shared.git.ephemeral }
  }

  private heed({ cancel }: { cancel: CancelRequest | null }): void {
    if (cancel !== null) this.interrupt({ kind: 'cancel', reason: cancel.reason })
  }
}

/** Thrown when a job to be taken over runs at a provider that this consumer does not have. Configure all consumers alike. */
export class UnconfiguredProviderError extends Error {
  override readonly name = 'UnconfiguredProviderError'
  constructor(readonly provider: string) {
    super(`provider "${provider}" holds this job's sandbox but is not configured at this consumer; configure all consumers alike`)
  }
}
