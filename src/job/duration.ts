import ms from 'ms'
import { z } from 'zod'
import { cutText } from './harmless-text.js'

const pattern = /^\d+(\.\d+)?\s*(ms|s|m|h|d)$/

/** The longest duration that a job, a step or a lifetime may have: 7 days. Longer values are typing errors. */
export const maxDurationMs = 7 * 24 * 60 * 60 * 1000

/**
 * Reads a duration with its unit, such as `90s`, `40m`, `1.5h`.
 * @returns whole milliseconds, or undefined when the text is not such a duration.
 */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim()
  // The library throws for longer ones.
  if (trimmed.length > 100 || !pattern.test(trimmed)) return undefined
  return Math.round(ms(trimmed as ms.StringValue))
}

/**
 * A zod schema for a duration given as text with a unit; its output is whole milliseconds.
 * Bare numbers are refused: whoever reads `timeout: 30` can't tell seconds from milliseconds.
 */
export const duration = z
  .string({ error: 'must be a duration with its unit, such as "90s", "40m" or "1h"' })
  .transform((text, context) => {
    const parsed = parseDuration(text)
    if (parsed === undefined) {
      context.addIssue({ code: 'custom', message: `"${cutText(text, 100)}" is not a duration; write a number and a unit, such as "90s", "40m" or "1h"` })
      return z.NEVER
    }
    if (parsed < 1 || parsed > maxDurationMs) {
      context.addIssue({ code: 'custom', message: `"${text}" is out of range; give more than 0 and at most 7d` })
      return z.NEVER
    }
    return parsed
  })
