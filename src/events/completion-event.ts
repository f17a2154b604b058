import { CloudEvent } from 'cloudevents'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import type { Hook } from '../job/event-kinds.js'
import { parseInput } from '../job/explain.js'
import { heldTime, type JobResult, jobResultSchema, wholeResult } from '../job/result.js'

/** What events name as their source unless configured otherwise. */
export const defaultEventSource = '/switchyard'

/** What is told when a job has ended: CloudEvents 1.0 in JSON. Extension attributes are allowed, as there, and left out. */
export const completionEventSchema = z.object({
  specversion: z.literal('1.0'),
  /** The same for the same end of the same run, however often it is delivered: `<job id>.<generation>`. */
  id: z.string(),
  /** The deployment, as a URI reference. */
  source: z.string(),
  type: z.enum(['dev.switchyard.job.succeeded', 'dev.switchyard.job.failed', 'dev.switchyard.job.cancelled']),
  /** The job's id. */
  subject: z.string(),
  time: z.iso.datetime(),
  datacontenttype: z.literal('application/json'),
  data: jobResultSchema,
  /** Where it stands among the deployment's events; replays begin behind it. Of events that were delivered. */
  sequence: z.string().optional(),
  /** The number of the last entry of the job's log: every piece of its output has a lower `seq`. Of events that were delivered. */
  logend: z.int().min(0).optional(),
})
export type CompletionEvent = z.output<typeof completionEventSchema>

/**
 * The event of a job's end.
 * @param options.generation the run's, from its record; 1 when left out.
 * @param options.runId the job's id among all queues of its deployment, where that is another one.
 * @param options.source the deployment, as a URI reference such as `/switchyard/production`.
 * @throws InvalidInputError when the source is no URI reference.
 */
export function completionEvent(
  result: JobResult,
  options: { source?: string; generation?: number; runId?: string | undefined; now?: () => number } = {},
): CompletionEvent {
  return {
    specversion: '1.0',
    id: completionEventId(options.runId ?? result.jobId, options.generation ?? 1),
    source: checkedSource(options.source ?? defaultEventSource),
    type: `dev.switchyard.job.${result.status}`,
    subject: result.jobId,
    time: new Date((options.now ?? Date.now)()).toISOString(),
    datacontenttype: 'application/json',
    data: result,
  }
}

/** Sources that were found right: a consumer's events all have the same. */
const rightSources = new Set<string>()

/** By the library's rules. @throws InvalidInputError. */
function checkedSource(source: string): string {
  if (rightSources.has(source)) return source
  try {
    new CloudEvent({ id: 'a', source, type: 'dev.switchyard.job.succeeded' })
  } catch {
    throw new InvalidInputError(`source: "${source}" must be a URI reference, such as "/switchyard/production"`)
  }
  if (rightSources.size < 1_000) rightSources.add(source)
  return source
}

/** As the stream holds it: without what `deliveredEvent` puts back, and with the webhooks of its job that it goes to. */
export function storedEvent({ id, source, time, data }: CompletionEvent, hooks: readonly Hook[] = []): Pick<CompletionEvent, 'id' | 'source' | 'data'> & { time?: string; hooks?: readonly Hook[] } {
  return { id, source, ...(time === data.attempts.at(-1)?.endedAt ? {} : { time }), ...(hooks.length === 0 ? {} : { hooks }), data }
}

/** The id of the event of a run's end, so that a receiver which keeps ids can tell what it has seen. */
export function completionEventId(runId: string, generation: number): string {
  return `${runId}.${generation}`
}

/** @throws InvalidInputError when it is not a completion event. */
export function parseCompletionEvent(value: unknown): CompletionEvent {
  return parseInput(completionEventSchema, value, 'completion event')
}

/** Tells a group that events were removed from the stream before it had handled them. */
export const trimmedEventSchema = z.object({
  specversion: z.literal('1.0'),
  id: z.string(),
  source: z.string(),
  type: z.literal('dev.switchyard.events.trimmed'),
  /** The group's name. */
  subject: z.string(),
  time: z.iso.datetime(),
  datacontenttype: z.literal('application/json'),
  data: z.object({
    /** How many there were. */
    count: z.int().min(1),
    /** The `sequence` of an event before them, and of one behind; of one event, its own. */
    after: z.string(),
    before: z.string(),
  }),
})
export type TrimmedEvent = z.output<typeof trimmedEventSchema>

const noticeSchema = z.object({ trimmed: z.int(), after: z.string(), before: z.string(), atMs: z.number(), group: z.string(), id: z.string() })

/** @param json as lua/event-group.lua writes it. */
export function trimmedEvent(json: string): TrimmedEvent {
  const { trimmed, after, before, atMs, group, id } = noticeSchema.parse(JSON.parse(json))
  return {
    specversion: '1.0',
    id: `${id}.${group}`,
    source: defaultEventSource,
    type: 'dev.switchyard.events.trimmed',
    subject: group,
    time: new Date(atMs).toISOString(),
    datacontenttype: 'application/json',
    data: { count: trimmed, after, before },
  }
}

/** Its other fields stand in it too where whoever ended the run gave it whole. */
const shortEvent = z.looseObject({ id: z.string(), type: z.string().startsWith('dev.switchyard.job.').optional(), data: z.looseObject({ jobId: z.string().optional(), status: z.string(), attempts: z.array(z.looseObject({ endedAt: heldTime.nullish() })).optional() }) })

/** A completion event with what `storedEvent` left out. What is not one is left as it is. */
export function wholeCompletionEvent(stored: unknown): unknown {
  const short = shortEvent.safeParse(stored)
  if (!short.success) return stored
  const { id, data: held } = short.data
  const jobId = held.jobId ?? id.replace(/\.[0-9]+$/, '')
  return { time: held.attempts?.at(-1)?.endedAt ?? undefined, ...short.data, data: wholeResult(held, jobId), specversion: '1.0', type: `dev.switchyard.job.${held.status}`, subject: jobId, datacontenttype: 'application/json' }
}
