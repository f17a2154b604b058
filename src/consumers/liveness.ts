/** A loop that has not come round for longer than it may. */
export interface StuckLoop {
  /** Such as `intake`, `reaper` or `job JOB_ID`. */
  readonly loop: string
  /** How long it has made no progress while it could have, in milliseconds. */
  readonly quietMs: number
}

export interface LivenessParts {
  /** Asks Redis for a sign of life; may take for ever. */
  readonly ping: () => Promise<unknown>
  /** How often time is counted, in milliseconds. */
  readonly tickMs: number
  /** Milliseconds by a clock that nobody can set. */
  readonly elapsed?: (() => number) | undefined
}

interface Loop {
  readonly allowedMs: number
  /** By the counted time. */
  cameRoundAtMs: number
}

/**
 * Whether this process's loops make progress. Each is watched with the longest time that a round of it takes, and says when it comes round:
 *
 *   watched ──came round──► quiet for so long ──longer than it may──► stuck, until it comes round
 *      └──ended──► forgotten
 *
 * Time counts only while Redis answers, since every loop waits for it: an outage restarts no consumer. What passes while the process is frozen
 * doesn't count either: a frozen process answers no probe, and one that goes on again is not stuck.
 */
export class Liveness {
  private readonly loops = new Map<string, Loop>()
  private readonly elapsed: () => number
  private countedMs = 0
  private tickedAtMs: number
  private asking = false
  private timer: NodeJS.Timeout | undefined

  constructor(private readonly parts: LivenessParts) {
    this.elapsed = parts.elapsed ?? (() => performance.now())
    this.tickedAtMs = this.elapsed()
  }

  start(): void {
    this.tickedAtMs = this.elapsed()
    this.timer = setInterval(() => this.tick(), this.parts.tickMs)
    this.timer.unref()
  }

  stop(): void {
    clearInterval(this.timer)
    this.loops.clear()
  }

  /** Watches a loop from now on. */
  watch(loop: string, allowedMs: number): void {
    this.loops.set(loop, { allowedMs, cameRoundAtMs: this.countedMs })
  }

  /** It has come round. Of one that is not watched nothing is remembered. */
  cameRound(loop: string): void {
    const known = this.loops.get(loop)
    if (known !== undefined) known.cameRoundAtMs = this.countedMs
  }

  /** It has ended as it should. */
  ended(loop: string): void {
    this.loops.delete(loop)
  }

  /** Those that are stuck, the longest first. */
  stuck(): StuckLoop[] {
    return [...this.loops]
      .map(([loop, { allowedMs, cameRoundAtMs }]) => ({ loop, quietMs: Math.round(this.countedMs - cameRoundAtMs), allowedMs }))
      .filter(({ quietMs, allowedMs }) => quietMs > allowedMs)
      .sort((left, right) => right.quietMs - left.quietMs)
      .map(({ loop, quietMs }) => ({ loop, quietMs }))
  }

  /** Counts what has passed since the last time; called by a timer, and by tests. */
  tick(): void {
    const now = this.elapsed()
    const { tickMs, ping } = this.parts
    // A sign of life that is still asked for: Redis is away.
    if (!this.asking) this.countedMs += Math.min(now - this.tickedAtMs, 2 * tickMs)
    this.tickedAtMs = now
    if (this.asking) return
    this.asking = true
    const answered = () => {
      this.asking = false
    }
    // A refusal is an answer, and no answer to whether the loops can go on; the next tick asks again.
    void ping().then(answered, answered)
  }
}
