import { parseDuration } from './duration.js'
import { InvalidInputError } from './errors.js'

/**
 * Reads a time that has passed: a duration before now, such as `2h`, or a time with its zone.
 * @param field what to call it in a refusal.
 * @returns milliseconds since 1970.
 * @throws InvalidInputError for what is neither.
 */
export function sinceOf(text: string, nowMs: number, field = '--since'): number {
  const ago = parseDuration(text)
  if (ago !== undefined) return Math.max(0, nowMs - ago)
  const atMs = /(Z|[+-]\d\d:?\d\d)$/i.test(text.trim()) ? Date.parse(text) : NaN
  if (Number.isNaN(atMs) || atMs < 0) throw new InvalidInputError(`${field}: "${text}" must be a duration such as 2h, or a time with its zone such as 2026-12-01T08:00:00Z`)
  return atMs
}
