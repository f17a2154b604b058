const tickMs = 25

/** What waits, and how to tell it that it need wait no more, or has to begin anew. */
export interface Patience {
  stop(): void
  /** Something came: all of the patience is there again. */
  again(): void
}

/**
 * Calls `onLate` after `patienceMs` in which this process ran. Time in which it did not (a long turn of the event loop, a suspended machine, a
 * processor that others have) counts as two ticks at most: whoever is waited for may have answered meanwhile, and nobody has looked.
 * @param now milliseconds of a clock that is never set.
 */
export function afterRunning(patienceMs: number, onLate: () => void, now: () => number = () => performance.now()): Patience {
  let left = patienceMs
  let last = now()
  const timer = setInterval(() => {
    const at = now()
    left -= Math.min(Math.max(at - last, 0), 2 * tickMs)
    last = at
    if (left > 0) return
    clearInterval(timer)
    onLate()
  }, tickMs)
  return {
    stop: () => clearInterval(timer),
    again: () => {
      left = patienceMs
    },
  }
}
