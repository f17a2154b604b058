import { z } from 'zod'
import { type EarlyEventKind, type EventKind, eventKinds, type Hook } from '../job/event-kinds.js'
import { InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { attemptSchema, jobErrorSchema, promotionSchema } from '../job/result.js'
import { type CompletionEvent, completionEventSchema, wholeCompletionEvent } from './completion-event.js'

/** What the data of every event before the end begins with. */
const ofEvery = {
  jobId: z.string(),
  /** Which run of the job: 1, or more after a retry of the whole job. */
  run: z.int().min(1),
  repository: z.string(),
  /** Whose job it is; null when it names no tenant. */
  tenant: z.string().nullable(),
}
const attempt = z.int().min(1)
const place = z.object({ provider: z.string(), sandboxId: z.string() })

const dataOf = {
  /** It is in the queue. */
  enqueued: z.object({ ...ofEvery, metadata: z.record(z.string(), z.json()) }),
  /** Its first sandbox is there; again when a job with `attempts` begins anew. */
  started: z.object({ ...ofEvery, attempt, ...place.shape }),
  /** A step has ended by itself or by its timeout. One that was done is run again when the job is moved to a checkpoint before it. */
  'step.finished': z.object({
    ...ofEvery,
    attempt,
    step: z.string(),
    /** Its number, from 0. */
    index: z.int().min(0),
    /** Null when it was stopped. */
    exitCode: z.int().nullable(),
    durationMs: z.int().min(0),
  }),
  /** Its work so far is at the git host. */
  checkpointed: z.object({
    ...ofEvery,
    attempt,
    commit: z.string(),
    branch: z.string(),
    /** The step to go on with from there, from 0, and whether it was made while that one ran. */
    index: z.int().min(0),
    withinStep: z.boolean(),
  }),
  /** It goes on in another sandbox, which is there. */
  moved: z.object({
    ...ofEvery,
    attempt,
    from: z.object({ provider: z.string(), sandboxId: z.string().nullable(), outcome: attemptSchema.shape.outcome, error: jobErrorSchema.nullable() }),
    to: place,
  }),
  /** A budget has too little for it: its sandbox is given up, and it waits until that has more. */
  parked: z.object({ ...ofEvery, attempt: z.int().min(0), reason: z.string() }),
  /** The target branch holds its work. */
  promoted: z.object({ ...ofEvery, to: z.string(), commit: z.string(), result: promotionSchema.shape.result }),
} satisfies Record<EarlyEventKind, z.ZodType>

const typePrefix = 'dev.switchyard.job.'

function earlyEvent<Kind extends EarlyEventKind>(kind: Kind) {
  return z.object({
    specversion: z.literal('1.0'),
    /** The same however often it is delivered; unique among the events of its source. */
    id: z.string(),
    /** The deployment, as a URI reference. */
    source: z.string(),
    type: z.literal(`${typePrefix}${kind}`),
    /** The job's id. */
    subject: z.string(),
    time: z.iso.datetime(),
    datacontenttype: z.literal('application/json'),
    data: dataOf[kind],
    /** Where it stands among the deployment's events; replays begin behind it. Of events that were delivered. */
    sequence: z.string().optional(),
    /** The number of the last entry of the job's log by then. Of events that were delivered, and have one. */
    logend: z.int().min(0).optional(),
  })
}

/** An event of a job's life: CloudEvents 1.0 in JSON. The end is one of three types, by how the job ended. */
export const jobEventSchema = z.discriminatedUnion('type', [
  earlyEvent('enqueued'),
  earlyEvent('started'),
  earlyEvent('step.finished'),
  earlyEvent('checkpointed'),
  earlyEvent('moved'),
  earlyEvent('parked'),
  earlyEvent('promoted'),
  completionEventSchema,
])
export type JobEvent = z.output<typeof jobEventSchema>

/** The events of a kind. */
export type JobEventOf<Kind extends EventKind> = Kind extends EarlyEventKind ? Extract<JobEvent, { type: `${typeof typePrefix}${Kind}` }> : CompletionEvent

/** Which kind an event is of. */
export function kindOf({ type }: Pick<JobEvent, 'type'>): EventKind {
  const name = type.slice(typePrefix.length)
  return eventKinds.find((kind) => kind === name) ?? 'completed'
}

type Shortened<Event> = Event extends { id: string; data: unknown } ? Pick<Event, 'id' | 'data'> : never
/** An event before the end, as it is told. */
export type EarlyEventParts = { [Kind in EarlyEventKind]: { readonly kind: Kind } & Shortened<JobEventOf<Kind>> }[EarlyEventKind]

/**
 * As the store takes it.
 * @param told.runId the job's id among all queues.
 * @param told.hooks the job's webhooks that it goes to.
 */
export function earlyEntry({ kind, id, data }: EarlyEventParts, told: { readonly runId: string; readonly source: string; readonly nowMs: number; readonly hooks: readonly Hook[] }): { id: string; kind: EarlyEventKind; runId: string; hooks: readonly Hook[]; json: string } {
  const { runId, source, nowMs, hooks } = told
  const json = JSON.stringify({ id, source, time: new Date(nowMs).toISOString(), kind, ...(hooks.length === 0 ? {} : { hooks }), data })
  return { id, kind, runId, hooks, json }
}

const storedEarly = z.looseObject({ kind: z.enum(eventKinds).exclude(['completed']), data: z.looseObject({ jobId: z.string() }) })

/** An event as it is delivered, from its JSON in the stream. @throws InvalidInputError when it is none. */
export function deliveredEvent(json: string, entry: { readonly id: string; readonly logEnd: number | null }): JobEvent {
  const stored: unknown = JSON.parse(json)
  const early = storedEarly.safeParse(stored)
  const whole = early.success
    ? { ...early.data, specversion: '1.0', type: `${typePrefix}${early.data.kind}`, subject: early.data.data.jobId, datacontenttype: 'application/json' }
    : wholeCompletionEvent(stored)
  const event = parseInput(jobEventSchema, whole, 'event')
  return { ...event, sequence: entry.id, ...(entry.logEnd === null ? {} : { logend: entry.logEnd }) }
}

const hooksIn = z.looseObject({ hooks: z.array(z.object({ n: z.int(), url: z.string(), secret: z.string() })) })

/** A webhook of its job that an event goes to, by its number. @throws InvalidInputError when the entry names none. */
export function hookIn(json: string, n: number): Hook {
  const hook = hooksIn.safeParse(JSON.parse(json)).data?.hooks.find((each) => each.n === n)
  if (hook === undefined) throw new InvalidInputError(`event: names no webhook ${n} of its job`)
  return hook
}

/** Kinds as they are asked for, each once. @throws InvalidInputError for one that there is none of. */
export function checkKinds(kinds: unknown, field: string): readonly EventKind[] {
  const parsed = z.array(z.enum(eventKinds)).safeParse(kinds)
  if (!parsed.success) throw new InvalidInputError(`${field}: must be a list of ${eventKinds.map((kind) => `"${kind}"`).join(', ')}`)
  return [...new Set(parsed.data)]
}
