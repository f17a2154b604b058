import { z } from 'zod'
import { parseInput } from './explain.js'

/** What is asked of every call's arguments, since callers without types may give anything. */

const object = z.looseObject({}, { error: 'must be an object' })
const signal = z.custom<AbortSignal>(
  (value) => typeof value === 'object' && value !== null && 'throwIfAborted' in value && typeof value.throwIfAborted === 'function' && 'addEventListener' in value && typeof value.addEventListener === 'function',
  { error: 'must be an AbortSignal; leave it out where nothing breaks the call off' },
)
const breakable = z.looseObject({ signal: signal.optional() }, { error: 'must be an object' })
/** Two numbers of 64 bits, of which the second may be left out. */
const entryId = z.string().refine((id) => /^\d{1,20}(-\d{1,20})?$/.test(id) && id.split('-').every((part) => BigInt(part) < 2n ** 64n))
const list = z.array(z.unknown(), { error: 'must be a list' })

/** @throws InvalidInputError where it is no object, or its `signal` is none. */
export function checkCall(options: unknown, what: string): void {
  parseInput(breakable, options, what)
}

/** @throws InvalidInputError where it is no object: spread out, a text of a million characters has as many fields. */
export function checkObject(value: unknown, what: string): void {
  parseInput(object, value, what)
}

/** @throws InvalidInputError where it is no list. */
export function checkList(value: unknown, what: string): void {
  parseInput(list, value, what)
}

/** Whether Redis takes it for the id of an entry of a stream: of others it says so in words of its own. */
export function isEntryId(id: unknown): boolean {
  return entryId.safeParse(id).success
}
