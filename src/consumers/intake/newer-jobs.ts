/** Together they are tried about so often, in milliseconds. */
const tryEveryMs = 5_000
/** At the latest after so long each is tried again: consumers of a newer release take it at once, but those of one that goes by the same name. */
const longestMs = 30 * 60_000
/** What has not come back for so long after its time is others', or gone. */
const slackMs = 60_000

/**
 * Jobs that this release can't read, and for how long each is left. Whoever tries one takes it out of the queue and puts it back, so the more they are the
 * longer each waits: trying them costs little however many they are, and is in nobody's way.
 */
export class NewerJobs {
  private readonly untilMs = new Map<string, number>()

  /** @param leastMs for how long one is left at the least. @param now a clock that nobody sets. */
  constructor(
    private readonly leastMs: number,
    private readonly now: () => number,
  ) {}

  /** This one could not be read just now. Returns for how many milliseconds it is not to be tried again. */
  leave(jobId: string): number {
    const nowMs = this.now()
    this.untilMs.delete(jobId)
    // Those that came first are due first.
    for (const [id, untilMs] of this.untilMs) {
      if (nowMs < untilMs + slackMs) break
      this.untilMs.delete(id)
    }
    const forMs = Math.min(longestMs, Math.max(this.leastMs, this.untilMs.size * tryEveryMs))
    if (this.untilMs.size * tryEveryMs < longestMs) this.untilMs.set(jobId, nowMs + forMs)
    return forMs
  }
}
