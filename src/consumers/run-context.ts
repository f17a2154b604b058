import { FenceLostError } from '../job/errors.js'
import type { Cost } from '../job/cost.js'
import { escapedLine } from '../job/harmless-text.js'
import { deadlineOf, type Deadline } from '../job/deadlines.js'
import { tellingOf } from '../events/told-events.js'
import type { LogChunk } from '../job/log.js'
import type { Attempt, JobError } from '../job/result.js'
import { milestonesAfter, takenOver } from '../job/milestones.js'
import type { RunRecord } from '../job/run-record.js'
import type { JobSpec } from '../job/spec.js'
import { costOf, type Moment } from '../job/usage.js'
import type { ProviderLoad } from '../store/provider-load.js'
import type { Telling } from '../store/stored-events.js'
import { unansweredCreateMs, type SlotOwner } from '../store/slot-owners.js'
import type { CancelRequest } from '../store/stored-run.js'
import { elapsedMs, type ConsumerContext } from './consumer-context.js'
import { JobBudget } from './job-budget.js'
import { Interruptions, type Interruption } from './interruption.js'
import { JobTrace } from './job-trace.js'
import type { BoardLog } from './output/board-log.js'
import type { ResolvedSecrets } from './output/secrets.js'
import type { Exclusions } from './placing/placement.js'
import { openSandbox, type SandboxAccess } from './sandbox-access.js'
import type { SavedCommit } from './transfer/transfer.js'

/** What the board shows of a job's course. */
const shown = ['phase', 'setupIndex', 'stepIndex', 'sandbox', 'attempts'] as const

/** How many lines `sayOnce` remembers. */
const maxSaid = 1_000

/**
 * One job under this consumer's supervision. `record` is what Redis holds, or will with the next save; it changes only
 * through `update` and `append`, which check the fence, and `amend`, which waits for one of them.
 */
export class RunContext {
  readonly budget: JobBudget = new JobBudget(this)
  readonly exclusions = new Map<string, { untilMs: number; why: string }>()
  /** Its spans. */
  trace = JobTrace.none
  /** Told once its work is done and only its end is left. */
  onClosing: () => void = () => undefined
  /** How often each provider turned this job away in a row. */
  readonly refusals = new Map<string, number>()
  /** When the git host last took from this consumer what it had refused the sandbox: the try of a phase. */
  disproved: { readonly phase: string; readonly tries: number } | null = null
  private readonly loop: string
  private readonly said = new Set<string>()
  private readonly interruptions: Interruptions
  /** What is told of the run's changes with the writes that make them; undefined when nobody asked. */
  private readonly telling: Telling | undefined
  private waiting: { readonly what: string; readonly sinceMs: number } | null = null
  private progressed = false
  private reason: string | null = null
  private closesSinceMs: number | null
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
    /** Since when it waits to be run; see `waitsSince`. */
    private readonly waitsSinceMs: number,
    /** By this process's clock that never steps: when the fence was given out. */
    private readonly acquiredAtMs: number,
  ) {
    this.loop = `job ${jobId}`
    this.interruptions = new Interruptions(leave)
    this.closesSinceMs = current.phase === 'closing' ? shared.now() : null
    this.telling = tellingOf(current, { source: `/switchyard/${shared.deployment}`, everywhere: shared.eventTypes ?? [], tenant: spec.tenant, now: shared.now })
  }

  /** The job's id among all queues of its deployment. */
  get runId(): string {
    return this.current.runId ?? this.jobId
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

  /** The job begins to wait for something that does not answer. @returns false when it waits for that already. */
  beginWait(what: string): boolean {
    if (this.waiting?.what === what) return false
    this.waiting = { what, sinceMs: this.shared.now() }
    return true
  }

  /** What the job waited for has answered: said, if it waited. */
  async endWait(): Promise<void> {
    if (this.waiting === null) return
    const seconds = Math.round(Math.max(0, this.shared.now() - this.waiting.sinceMs) / 1000)
    this.waiting = null
    await this.say(`goes on after ${seconds} s of waiting`)
  }

  /** The supervision has come round; see `Liveness`. */
  cameRound(): void {
    this.shared.liveness.cameRound(this.loop)
  }

  /** Something came of the job's course: failures before that and after it are not in a row. */
  async progress(): Promise<void> {
    this.cameRound()
    this.progressed = true
    await this.endWait()
  }

  /** Whether there was progress since this was asked last. */
  takeProgress(): boolean {
    const { progressed } = this
    this.progressed = false
    return progressed
  }

  get record(): RunRecord {
    return this.current
  }

  /** See `Interruptions`, also for the next two. */
  get work(): AbortSignal {
    return this.interruptions.work
  }

  get aftermath(): AbortSignal {
    return this.interruptions.aftermath
  }

  get interruption(): Interruption | null {
    return this.interruptions.current
  }

  interrupt(interruption: Interruption): void {
    this.interruptions.interrupt(interruption)
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

  /** What the job's time is bounded by now; null for nothing. */
  get deadline(): Deadline | null {
    return deadlineOf(this.current, this.spec, this.waitsSinceMs)
  }

  /**
   * The clock by which sandboxes are counted: no consumer's own clock decides how long one has lived that another has made. It is at the fence when
   * that is given out, which is Redis' time then and always higher than the fence before, and goes on by a clock that never steps.
   */
  get moment(): Moment {
    const { now, elapsed = elapsedMs } = this.shared
    return { nowMs: now(), meterMs: Math.round(this.fence + Math.max(0, elapsed() - this.acquiredAtMs)) }
  }

  /** What the sandbox has cost until now, for the attempt that it was of. */
  costSoFar(): { readonly cost?: Cost } {
    const cost = costOf(this.current.sandbox, this.moment)
    return cost === undefined ? {} : { cost }
  }

  /** When the job's time is up, in milliseconds since 1970; as if its sandbox were there now when it has had none. */
  get deadlineMs(): number {
    const { deadline } = this
    return deadline?.kind === 'timeout' ? deadline.atMs : this.shared.now() + this.spec.timeoutMs - (this.current.parking?.timeUsedMs ?? 0)
  }

  /** Since when its work is done and only its end is left, as this consumer saw it, in milliseconds since 1970; null before. */
  get closingSinceMs(): number | null {
    return this.closesSinceMs
  }

  /** What its status says that it waits for; null when it moves. */
  get waitingFor(): string | null {
    return this.reason
  }

  /** Writes the record. @throws FenceLostError when another consumer supervises the job now. */
  async update(patch: Partial<RunRecord>, reason: string | null = null): Promise<void> {
    this.change(patch, reason)
    this.reason = reason
    this.cameRound()
    this.boardLog.waits(reason)
    this.heed(await this.shared.store.save(this.jobId, this.fence, this.current, reason, this.telling))
  }

  /**
   * As `update`, without waiting for the answer. Only for what may as well be lost with this process, before which nothing must happen. What refuses it
   * refuses the writes behind it too.
   */
  send(patch: Partial<RunRecord>): void {
    this.update(patch).catch(() => undefined)
  }

  /** Changes the record; the next write takes it along. Only where nothing but that write comes next. */
  amend(patch: Partial<RunRecord>): void {
    this.current = { ...this.current, ...patch }
  }

  /** Writes the record and the output that it accounts for, in one step. */
  async append(patch: Partial<RunRecord>, chunks: readonly LogChunk[]): Promise<void> {
    this.change(patch, this.reason)
    this.cameRound()
    this.boardLog.waits(this.reason)
    this.heed(await this.shared.store.append(this.jobId, this.fence, this.current, chunks, undefined, this.telling))
    this.boardLog.add(chunks)
  }

  /** A line of Switchyard's own in the job's log: one, whatever a job's names or a provider's errors in it hold. */
  async say(text: string): Promise<void> {
    const data = Buffer.from(`${escapedLine(this.secrets.patterns.mask(text))}\n`)
    await this.append({}, [{ step: 'switchyard', stream: 'system', attempt: this.record.attempts.length, offset: 0, data }])
  }

  /** As `say`, but nothing that this supervisor has said before. */
  async sayOnce(text: string): Promise<void> {
    if (this.said.has(text)) return
    if (this.said.size < maxSaid) this.said.add(text)
    await this.say(text)
  }

  /** The attempt under way, changed. */
  patchAttempt(patch: Partial<Attempt>): Attempt[] {
    const attempts = [...this.record.attempts]
    const last = attempts.pop()
    return last === undefined ? [] : [...attempts, { ...last, ...patch }]
  }

  /** An error as the record may hold it: without secrets. */
  masked(error: JobError): JobError {
    return { ...error, message: this.secrets.patterns.mask(error.message) }
  }

  /** Frees this job's place, if it holds one and this consumer still holds the job. */
  async releasePlace(): Promise<void> {
    await this.shared.ledger.releaseOf(this.jobId, this.fence)
  }

  /** Leaves this job's place, if it holds one, to what may still live at its provider; the reaper frees it once that is dead. */
  async entrustPlace(provider: string, owner: Exclude<SlotOwner, { kind: 'job' }>): Promise<void> {
    await this.shared.owners.entrust({ runId: this.runId, fence: this.fence }, owner)
    this.shared.reapSoon(provider, owner.kind === 'create' ? unansweredCreateMs : this.shared.settings.callTimeoutMs)
  }

  /**
   * Leaves this job's place at a provider that this consumer doesn't have to what may still live there. The reaper of a consumer that has the provider frees it once that is
   * dead; where nobody has it any more it is free after a sandbox's lifetime.
   */
  async leavePlace(provider: string, owner: Exclude<SlotOwner, { kind: 'job' }>): Promise<void> {
    await this.shared.owners.entrust({ runId: this.runId, fence: this.fence }, owner, { provider, forMs: this.shared.settings.sandboxLifetimeMs })
  }

  exclude(provider: string, untilMs: number, why: string): void {
    this.exclusions.set(provider, { untilMs, why })
  }

  activeExclusions(): Exclusions {
    return this.exclusions
  }

  /**
   * The sandbox that the record names. A phase that needs one is never entered without.
   * @param sandbox another one of this job's.
   */
  sandbox(sandbox: Pick<NonNullable<RunRecord['sandbox']>, 'provider' | 'id'> | null = this.record.sandbox): SandboxAccess {
    if (sandbox === null) throw new Error(`run ${this.jobId}: phase ${this.record.phase} without a sandbox`)
    return openSandbox(this.shared, sandbox, this.spec, {
      assertHeld: () => this.assertHeld(),
      confirmHeld: () => this.confirmHeld(),
      onSecret: (value) => this.secrets.patterns.addPassing(value),
      injected: this.secrets.injected,
    })
  }

  /** The last commit of the job that the git host has: what the work goes on from. */
  savedCommit(): SavedCommit {
    const { base, checkpoint } = this.record
    if (base === null) throw new Error(`run ${this.jobId}: phase ${this.record.phase} without a base`)
    if (typeof checkpoint?.branch !== 'string') return { ...base, ephemeral: false }
    return { sha: checkpoint.sha, ref: `refs/heads/${checkpoint.branch}`, ephemeral: this.shared.git.ephemeral }
  }

  /** The next write says that this consumer has taken the run over from another one. */
  tookOver(): void {
    this.amend({ milestones: takenOver(this.current, this.shared.holder, this.shared.now()) })
  }

  private change(patch: Partial<RunRecord>, waits: string | null): void {
    const before = this.current
    const after: RunRecord = { ...before, ...patch }
    after.milestones = milestonesAfter({ before, after, waited: this.reason, waits, spec: this.spec, nowMs: this.shared.now() })
    this.current = after
    if (shown.some((name) => after[name] !== before[name])) this.boardLog.progress(after, this.spec)
    if (after.phase === 'closing' && this.closesSinceMs === null) {
      this.closesSinceMs = this.shared.now()
      this.onClosing()
    }
  }

  private heed({ cancel }: { cancel: CancelRequest | null }): void {
    if (cancel !== null) this.interrupt({ kind: 'cancel', reason: cancel.reason })
  }
}
