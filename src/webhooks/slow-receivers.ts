/**
 * Whose deliveries are put off, so that receivers which answer slowly, or never, hold up nobody else's: all jobs' webhooks share the places that one
 * deliverer has. Who is slow (a tenant, or the origin of a URL) has a quarter of them at most; what comes beyond that waits in Redis, for about as long as
 * those before it take. Pure, but for the clock.
 */
export class SlowReceivers {
  readonly #known = new Map<string, Known>()
  readonly #most: number

  /**
   * @param places how many deliveries there are at once.
   * @param nowMs a clock that never goes back.
   */
  constructor(
    places: number,
    private readonly nowMs: () => number,
  ) {
    this.#most = Math.max(1, Math.floor(places / 4))
  }

  /** For how many milliseconds a delivery to these is put off; 0 when it may begin. */
  putOffMs(keys: readonly string[]): number {
    const nowMs = this.nowMs()
    let waitMs = 0
    for (const key of keys) {
      const known = this.#known.get(key)
      if (known === undefined || known.begunAtMs.size < this.#most) continue
      const oldestMs = nowMs - Math.min(...known.begunAtMs.values())
      const tookMs = Math.max(oldestMs, nowMs - known.endedAtMs < rememberedMs ? known.tookMs : 0)
      if (tookMs < slowMs) continue
      // Past the longest wait their turns begin anew: all at its end, those of a long backlog would come in one moment, for few places.
      const turnMs = (Math.max(known.nextAtMs - nowMs, 0) + tookMs / this.#most) % longestMs
      known.nextAtMs = nowMs + turnMs
      waitMs = Math.max(waitMs, turnMs, 1)
    }
    return Math.ceil(waitMs)
  }

  /** Notes that a delivery begins. @returns to be called at its end. */
  begin(keys: readonly string[]): () => void {
    const begunAtMs = this.nowMs()
    const delivery = Symbol('delivery')
    for (const key of keys) {
      const known = this.#known.get(key) ?? { begunAtMs: new Map(), tookMs: 0, endedAtMs: begunAtMs, nextAtMs: 0 }
      known.begunAtMs.set(delivery, begunAtMs)
      // Behind those that were used before it.
      this.#known.delete(key)
      this.#known.set(key, known)
    }
    return () => {
      const endedAtMs = this.nowMs()
      for (const key of keys) {
        const known = this.#known.get(key)
        if (known === undefined) continue
        known.begunAtMs.delete(delivery)
        known.tookMs = endedAtMs - begunAtMs
        known.endedAtMs = endedAtMs
        if (known.begunAtMs.size === 0 && known.tookMs < slowMs) this.#known.delete(key)
      }
      this.#forget(endedAtMs)
    }
  }

  /** Slow ones are forgotten in turn, those first that were used the longest ago: a job may name any number of them. */
  #forget(nowMs: number): void {
    for (const [key, known] of this.#known) {
      if (known.begunAtMs.size > 0 || (this.#known.size <= mostKnown && nowMs - known.endedAtMs < rememberedMs)) return
      this.#known.delete(key)
    }
  }
}

interface Known {
  /** Those under way. */
  readonly begunAtMs: Map<symbol, number>
  /** How long the last one took, and when it ended. */
  tookMs: number
  endedAtMs: number
  /** When the next one that is put off has its turn. */
  nextAtMs: number
}

const slowMs = 1_000
const rememberedMs = 60_000
/** Nobody waits for longer than that without another look. */
const longestMs = 300_000
const mostKnown = 10_000
