import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { type EventKind, eventKinds } from '../job/event-kinds.js'
import type { TrimmedEvent } from './completion-event.js'
import type { JobEvent, JobEventOf } from './job-event.js'

/** A point in a deployment's events: behind the one with that `sequence`, or a time in milliseconds since 1970, by Redis' clock. */
export type EventPoint = { readonly after: string } | { readonly sinceMs: number }

export interface SubscribeOptions<Kind extends EventKind = 'completed'> {
  /** The deployment's prefix. */
  readonly prefix?: string | undefined
  /**
   * Which events the group is given. Default `['completed']`. Those before the end are written only where the job (`events`) or the deployment
   * (`events.types`) asks for them. All readers of a group are to say the same: what one that reads does not want is passed by for all.
   */
  readonly types?: readonly Kind[] | undefined
  /** Where a group that is new begins: with everything that is kept (`start`, the default), with what comes (`now`), or at a point in between. */
  readonly from?: 'start' | 'now' | EventPoint | undefined
  /** How many events are handled side by side, each of another job. At most half of them (one, of one) are such as have failed before. Default 10. */
  readonly concurrency?: number | undefined
  /** After how many milliseconds an event comes to others whose reader died, from 10. Default 15,000. */
  readonly redeliverAfterMs?: number | undefined
  /** How often an event is tried before it becomes a dead letter. Default 10. */
  readonly attempts?: number | undefined
  /** How long a failed event waits before its next attempt: this, then twice as long each time, at most `maxBackoffMs`. Default 1,000 ms. */
  readonly backoffMs?: number | undefined
  /** Default 300,000 ms. */
  readonly maxBackoffMs?: number | undefined
  /** After how many milliseconds a handler that has not said anything has failed. It can't be stopped: bound what it waits for. Default 300,000. */
  readonly handlerTimeoutMs?: number | undefined
  /** How many dead letters the group keeps; the oldest go first. Default 10,000. */
  readonly maxDeadLetters?: number | undefined
  /** How many bytes of dead letters the group keeps. Default 64 MiB. */
  readonly maxDeadLetterBytes?: number | undefined
  /** Told of every failed handler, unreadable event and fault of the connection. Default: a process warning. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Told, at least once, when events were trimmed before the group had handled them; tried again as a handler is. Default: `onError` is told. */
  readonly onTrimmed?: ((event: TrimmedEvent) => Promise<void> | void) | undefined
  /** Told of an event that was tried as often as it may be, and is a dead letter now. Default: `onError` is told, as of each attempt. */
  readonly onDead?: ((event: JobEventOf<Kind> | null, error: unknown) => void) | undefined
}

/** Options for whatever kinds. */
export type AnySubscribeOptions = Omit<SubscribeOptions<EventKind>, 'onDead'> & { readonly onDead?: ((event: JobEvent | null, error: unknown) => void) | undefined }

const whole = (unit: string, from: number, to: number) =>
  z.int({ error: `must be a whole number of ${unit}` }).min(from, `must be at least ${from}`).max(to, `must be at most ${to}`)
const day = 86_400_000
const callback = z.custom<(...args: never[]) => unknown>((value) => typeof value === 'function', { error: 'must be a function' }).optional()

const pointForms = '{ after: the sequence of an event } or { sinceMs: milliseconds since 1970 }'
const pointSchema = z.union([z.strictObject({ after: z.string().regex(/^\d{1,19}-\d{1,19}$/) }), z.strictObject({ sinceMs: z.int().min(0) })])

const optionsSchema = z
  .strictObject({
    prefix: z.string({ error: 'must be a text' }).optional(),
    from: z
      .custom<'start' | 'now' | EventPoint>((value) => value === 'start' || value === 'now' || pointSchema.safeParse(value).success, { error: `must be "start", "now", ${pointForms}` })
      .default('start'),
    types: z.array(z.enum(eventKinds, { error: `must be one of ${eventKinds.map((kind) => `"${kind}"`).join(', ')}` })).min(1, 'is empty; leave it out for completion events').default(['completed']),
    concurrency: whole('events', 1, 1_000).default(10),
    redeliverAfterMs: whole('milliseconds', 10, day).default(15_000),
    attempts: whole('attempts', 1, 1_000).default(10),
    backoffMs: whole('milliseconds', 1, day).default(1_000),
    maxBackoffMs: whole('milliseconds', 1, day).default(300_000),
    handlerTimeoutMs: whole('milliseconds', 1, day).default(300_000),
    maxDeadLetters: whole('events', 1, 1_000_000).default(10_000),
    maxDeadLetterBytes: whole('bytes', 1, 2 ** 40).default(64 * 1024 * 1024),
    onError: callback,
    onDead: callback,
    onTrimmed: callback,
  })

/** Options with their defaults filled in. */
export type CheckedOptions = Omit<z.output<typeof optionsSchema>, 'onError' | 'onDead' | 'onTrimmed'>

/** @throws InvalidInputError with one sentence for every problem. */
export function checkOptions(options: object): CheckedOptions {
  return parseInput(optionsSchema, options, 'subscribe options')
}

const longestGroup = 200

/** @throws InvalidInputError when it is no name of a group. */
export function checkGroup(group: unknown): string {
  if (typeof group !== 'string') throw new InvalidInputError('group: must be a text; give the name of the consumer group')
  if (group === '') throw new InvalidInputError('group: is empty; give the name of the consumer group')
  if (group.length > longestGroup) throw new InvalidInputError(`group: is longer than ${longestGroup} characters; give a shorter name`)
  // As Redis has it, where half of a character is another one: by the name that was given nobody would find it in the list.
  return Buffer.from(group).toString()
}

/** How long an event waits after its n-th attempt, in milliseconds. */
export function backoffOf(attempt: number, options: Pick<CheckedOptions, 'backoffMs' | 'maxBackoffMs'>): number {
  return Math.min(options.backoffMs * 2 ** Math.min(attempt - 1, 40), Math.max(options.maxBackoffMs, options.backoffMs))
}

/** The entry behind which to read. @throws InvalidInputError when it is no point. */
export function entryBefore(from: unknown): string {
  const point = pointSchema.safeParse(from).data
  if (point === undefined) throw new InvalidInputError(`from: must be ${pointForms}`)
  if ('after' in point) return point.after
  return point.sinceMs === 0 ? '0-0' : `${point.sinceMs - 1}-18446744073709551615`
}
