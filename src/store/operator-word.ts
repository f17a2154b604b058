import { z } from 'zod'

/** What holds because an operator said so. */
export const operatorWordSchema = z.object({
  /** Who. */
  by: z.string(),
  reason: z.string().nullable().default(null),
  /** Since when, in milliseconds since 1970 by Redis' clock. */
  atMs: z.number(),
  /** Until when; null for until it is taken back. */
  untilMs: z.number().nullable().default(null),
})
export type OperatorWord = z.output<typeof operatorWordSchema>

/** For people, such as "by anna: maintenance (until 2026-12-01T08:00:00Z)". */
export function describeWord({ by, reason, untilMs }: OperatorWord): string {
  return `by ${by}${reason === null ? '' : `: ${reason}`}${untilMs === null ? '' : ` (until ${new Date(untilMs).toISOString().slice(0, 19)}Z)`}`
}
