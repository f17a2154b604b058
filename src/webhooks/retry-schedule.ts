/**
 * When a delivery that failed is tried again. Pure.
 *
 * The waits double from 5 seconds to 2 hours, each 10 % shorter or longer by chance, so that what failed together does not come together:
 * 24 attempts over 24 to 30 hours. A receiver that asks for more time (`Retry-After`) gets it, up to 2 hours a time.
 */
export const deliveryAttempts = 24
const firstWaitMs = 5_000
export const longestWaitMs = 2 * 3_600_000
const jitter = 0.1

/** How long an event waits after its n-th attempt, from 1, in milliseconds. @param random from 0 to 1. */
export function waitAfter(attempt: number, random: number): number {
  return Math.round(Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(attempt - 1, 30)) * (1 - jitter + 2 * jitter * random))
}

/**
 * How long a `Retry-After` asks for, in milliseconds, at most two hours; 0 when it says nothing that counts.
 * @param header seconds, or a date as HTTP writes it.
 */
export function retryAfterMs(header: string | undefined, nowMs: number): number {
  if (header === undefined) return 0
  const text = header.trim()
  const askedMs = /^\d{1,15}$/.test(text) ? Number(text) * 1000 : /^[A-Za-z]{3},? /.test(text) ? Date.parse(text) - nowMs : 0
  return Number.isNaN(askedMs) ? 0 : Math.min(Math.max(askedMs, 0), longestWaitMs)
}
