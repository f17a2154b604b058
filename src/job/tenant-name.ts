import { z } from 'zod'

/**
 * A tenant's name, wherever one is given: it stands in lists, logs and messages as it is, and Redis' JSON takes no half of a character.
 * @param empty what is said of an empty one.
 */
export function tenantName(empty = 'is empty; leave it out') {
  return z
    .string({ error: 'must be a text' })
    .min(1, empty)
    .max(100, 'must be at most 100 characters long')
    .regex(/^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]*$/u, 'must be one line without control characters')
}
