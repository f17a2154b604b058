import { InvalidInputError, NewerReleaseError, SwitchyardError, UnknownJobError } from '../job/errors.js'
import { cutText } from '../job/harmless-text.js'
import type { JobResult } from '../job/result.js'
import { type Signals, untilAborted } from '../store/index.js'
import { checkCall } from '../job/call-options.js'

/** Thrown by `result()` when the job has not ended within `timeoutMs`. The job goes on; ask again, or cancel it. */
export class ResultTimeoutError extends SwitchyardError {
  override readonly name = 'ResultTimeoutError'
  override readonly code = 'SWY_RESULT_TIMEOUT'
  constructor(
    readonly jobId: string,
    readonly timeoutMs: number,
  ) {
    super(`job ${jobId} has not ended within ${timeoutMs} ms; it goes on: wait longer, or cancel it`)
  }
}

/** What the waiter looks up: each job's result, `running`, or `unknown`; in the order asked for, in one round trip. */
export type LookUp = (jobIds: readonly string[]) => Promise<Standing[]>
type Standing = JobResult | 'running' | 'unknown'

interface Waiting<T> {
  readonly resolve: (found: T) => void
  readonly reject: (error: unknown) => void
}
type Waiter = Waiting<JobResult>

/** A job is looked up again besides, in milliseconds: a signal that was lost without a reconnect costs about this. */
const recheckMs = 3_000
/** How often some are, and how many at most each time: what waiting costs Redis does not grow with how many wait. Each takes two commands. */
const tickMs = 1_000
const recheckedPerTick = 32
/** How many are looked up in one round trip when all have to be. */
const jobsPerLookUp = 500
/** The longest that a timer of Node's can be set for; a longer one would go off at once. */
const longestTimerMs = 2 ** 31 - 1

/**
 * Waits for the results of all jobs that one process waits for: one subscription and one timer, however many they are.
 * A signal says "look"; the record is the truth. While Redis is away waiting goes on, up to each caller's own timeout.
 */
export class ResultWaiter {
  /** In the order in which they are looked up next. */
  readonly #waiters = new Map<string, Set<Waiter>>()
  #timer: NodeJS.Timeout | undefined
  #subscribed: Promise<unknown> | undefined
  #stopReconnect: (() => void) | undefined
  #closedBy: Error | undefined
  /** What is to be looked up once this turn of the event loop is over, thousands at once where thousands are waited for; a round trip each would take this process seconds. */
  #asked = new Map<string, Waiting<Standing>[]>()
  #recheck = new Set<string>()

  constructor(
    private readonly openSignals: () => Signals,
    private readonly lookUp: LookUp,
  ) {}

  /**
   * @param options.timeoutMs Infinity, or left out, waits without limit.
   * @throws InvalidInputError, UnknownJobError, ResultTimeoutError, the signal's reason, or what the first look-up meets (RedisUnavailableError).
   */
  async wait(jobId: string, options: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined } = {}): Promise<JobResult> {
    checkCall(options, 'result')
    const { timeoutMs = Number.POSITIVE_INFINITY, signal } = options
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) throw new InvalidInputError(`timeoutMs: ${cutText(String(timeoutMs), 100)} must be a number of milliseconds from 0 on; leave it out to wait without limit`)
    signal?.throwIfAborted()
    const state = await untilAborted(this.#ask(jobId), signal)
    if (state === 'unknown') throw new UnknownJobError(jobId)
    if (state !== 'running') return state
    // It may have been closed since the answer came: nobody would look any more.
    if (this.#closedBy !== undefined) throw this.#closedBy

    let stopTimer: (() => void) | undefined
    let onAbort: (() => void) | undefined
    let waiter: Waiter | undefined
    try {
      return await new Promise<JobResult>((resolve, reject) => {
        waiter = { resolve, reject }
        const waiters = this.#waiters.get(jobId) ?? new Set()
        this.#waiters.set(jobId, waiters.add(waiter))
        stopTimer = afterMs(timeoutMs, () => reject(new ResultTimeoutError(jobId, timeoutMs)))
        onAbort = () => reject(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)))
        signal?.addEventListener('abort', onAbort)
        this.#start(jobId)
      })
    } finally {
      stopTimer?.()
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
      if (waiter !== undefined) this.#remove(jobId, waiter)
    }
  }

  /** Makes every wait fail with `error`, and stops. */
  close(error: Error): void {
    this.#closedBy = error
    this.#stopReconnect?.()
    clearInterval(this.#timer)
    this.#timer = undefined
    for (const waiters of this.#waiters.values()) for (const { reject } of waiters) reject(error)
  }

  #start(jobId: string): void {
    this.#timer ??= setInterval(() => void this.#checkSome(), tickMs)
    if (this.#subscribed === undefined) {
      const signals = this.openSignals()
      this.#subscribed = signals.onDone((ended) => {
        if (this.#waiters.has(ended)) void this.#check([ended])
      })
      this.#stopReconnect = signals.onReconnect(() => void this.#checkAll())
    }
    // What ended between the first look and now is seen now.
    this.#subscribed.then(
      () => this.#checkSoon(jobId),
      // The connection was closed; `close` tells the waiters.
      () => undefined,
    )
  }

  async #ask(jobId: string): Promise<Standing> {
    return await new Promise<Standing>((resolve, reject) => {
      if (this.#asked.size === 0) setImmediate(() => void this.#askAll())
      this.#asked.set(jobId, [...(this.#asked.get(jobId) ?? []), { resolve, reject }])
    })
  }

  async #askAll(): Promise<void> {
    const asked = this.#asked
    this.#asked = new Map()
    await Promise.all(
      partsOf([...asked.keys()]).map((part) =>
        this.#lookUpEach(part, (jobId, found) => {
          for (const { resolve, reject } of asked.get(jobId) ?? []) {
            if ('error' in found) reject(found.error)
            else resolve(found.state)
          }
        }),
      ),
    )
  }

  /** Some, in one round trip. What can't be read of one job is said of that alone. */
  async #lookUpEach(jobIds: readonly string[], each: (jobId: string, found: { readonly state: Standing } | { readonly error: unknown }) => void): Promise<void> {
    try {
      const states = await this.lookUp(jobIds)
      for (const [index, jobId] of jobIds.entries()) each(jobId, { state: states[index] ?? 'unknown' })
    } catch (error) {
      if (jobIds.length > 1 && error instanceof NewerReleaseError) {
        const middle = Math.ceil(jobIds.length / 2)
        await Promise.all([this.#lookUpEach(jobIds.slice(0, middle), each), this.#lookUpEach(jobIds.slice(middle), each)])
      } else for (const jobId of jobIds) each(jobId, { error })
    }
  }

  #checkSoon(jobId: string): void {
    if (this.#recheck.size === 0) {
      setImmediate(() => {
        const jobIds = [...this.#recheck]
        this.#recheck.clear()
        for (const part of partsOf(jobIds)) void this.#check(part)
      })
    }
    this.#recheck.add(jobId)
  }

  /** The next ones in turn. */
  async #checkSome(): Promise<void> {
    const count = Math.min(recheckedPerTick, Math.ceil((this.#waiters.size * tickMs) / recheckMs))
    const next: string[] = []
    for (const jobId of this.#waiters.keys()) {
      if (next.length === count) break
      next.push(jobId)
    }
    for (const jobId of next) {
      const waiters = this.#waiters.get(jobId)
      if (waiters === undefined) continue
      this.#waiters.delete(jobId)
      this.#waiters.set(jobId, waiters)
    }
    await this.#check(next)
  }

  async #checkAll(): Promise<void> {
    for (const part of partsOf([...this.#waiters.keys()])) await this.#check(part)
  }

  async #check(jobIds: readonly string[]): Promise<void> {
    if (jobIds.length === 0) return
    await this.#lookUpEach(jobIds, (jobId, found) => {
      // Redis is away, and waiting is what this is for: the next check or reconnect looks again. Only what nobody here can read stays so.
      if ('error' in found && !(found.error instanceof NewerReleaseError)) return
      for (const { resolve, reject } of this.#waiters.get(jobId) ?? []) {
        if ('error' in found) reject(found.error)
        else if (found.state === 'unknown') reject(new UnknownJobError(jobId))
        else if (found.state !== 'running') resolve(found.state)
      }
    })
  }

  #remove(jobId: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(jobId)
    waiters?.delete(waiter)
    if (waiters?.size === 0) this.#waiters.delete(jobId)
    if (this.#waiters.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }
}

function partsOf(jobIds: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(jobIds.length / jobsPerLookUp) }, (_each, index) => jobIds.slice(index * jobsPerLookUp, (index + 1) * jobsPerLookUp))
}

/** As setTimeout, for any time; not at all for Infinity. Returns how to stop. */
function afterMs(ms: number, then: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  const set = (leftMs: number) => {
    if (leftMs === Number.POSITIVE_INFINITY) return
    const stepMs = Math.min(leftMs, longestTimerMs)
    timer = setTimeout(() => (leftMs > stepMs ? set(leftMs - stepMs) : then()), stepMs)
  }
  set(ms)
  return () => clearTimeout(timer)
}
