import { parseDuration } from '../job/duration.js'
import { InvalidInputError } from '../job/errors.js'

/**
 * Reads `--since`: a duration before now, such as `2h`, or a time with its zone.
 * @returns milliseconds since 1970.
 * @throws InvalidInputError for what is neither.
 */
export function sinceOf(text: string, nowMs: number): number {
  const ago = parseDuration(text)
  if (ago !== undefined) return Math.max(0, nowMs - ago)
  const atMs = /(Z|[+-]\d\d:?\d\d)$/i.test(text.trim()) ? Date.parse(text) : NaN
  if (Number.isNaN(atMs) || atMs < 0) throw new InvalidInputError(`--since: "${text}" must be a duration such as 2h, or a time with its zone such as 2026-12-01T08:00:00Z`)
  return atMs
}
