import { z } from 'zod'

/**
 * A tenant's name, wherever one is given: whoever a job may name can be paused, limited and paid for. Any character, since a backend may use the names that its own users chose, and
 * whatever shows one makes it harmless; but none that Redis' JSON can't take.
 * @param empty what is said of an empty one.
 */
export function tenantName(empty = 'is empty; leave it out') {
  return z
    .string({ error: 'must be a text' })
    .min(1, empty)
    .max(100, 'must be at most 100 characters long')
    .regex(/^\P{Cs}*$/u, 'holds half of a character (one half of a surrogate pair)')
}
