/** A clock that was set is followed after so long, in milliseconds: then it is not a passing error. */
const followAfterMs = 300_000
/** Differences up to this are those of a clock that is kept right, and are followed at once. */
const slewMs = 1_000

/**
 * A clock for deadlines and ages: milliseconds since 1970 as the machine says, but for steps of its clock. One that is set forward or back by
 * hours, by mistake or because the machine was suspended, moves nothing at once; when it stays so for five minutes it is believed.
 * @param wall milliseconds since 1970. @param elapsed milliseconds that never step.
 */
export function steadyClock(wall: () => number = () => Date.now(), elapsed: () => number = () => performance.now()): () => number {
  let origin = wall() - elapsed()
  let differsSince: number | null = null
  return () => {
    const passed = elapsed()
    const difference = wall() - (origin + passed)
    if (Math.abs(difference) <= slewMs) differsSince = null
    else differsSince ??= passed
    if (differsSince === null || passed - differsSince >= followAfterMs) {
      origin += difference
      differsSince = null
    }
    return Math.round(origin + passed)
  }
}
