import { z } from 'zod'

/**
 * What is told of a job's life, in its order. `completed` is told of every job; the others only where somebody asked for them: the job, or
 * its deployment. `started` and `moved` come with each sandbox that is there, `step.finished` again when a step is run again elsewhere.
 */
export const eventKinds = ['enqueued', 'started', 'step.finished', 'checkpointed', 'moved', 'parked', 'promoted', 'completed'] as const
export type EventKind = (typeof eventKinds)[number]
/** Those that only come when they are asked for. */
export type EarlyEventKind = Exclude<EventKind, 'completed'>

/** How many webhooks a job may name: each has a group of readers of its own, shared by all jobs. */
export const maxJobWebhooks = 4
const longestUrl = 2_000

export const eventKindSchema = z.enum(eventKinds, { error: `must be one of ${eventKinds.map((kind) => `"${kind}"`).join(', ')}` })
export const eventKindsSchema = z.array(eventKindSchema, { error: 'must be a list such as ["started", "completed"]' }).max(eventKinds.length, `names more than the ${eventKinds.length} there are; name each once`)

/** Why a URL can't be that of a webhook, as a clause; undefined when it can. What it resolves to is looked at when it is called. */
export function webhookUrlProblem(text: string): string | undefined {
  if (text.length > longestUrl) return `is longer than ${longestUrl} characters; give a shorter one`
  if (!URL.canParse(text)) return 'is no URL; give one such as "https://example.com/hooks/switchyard"'
  const url = new URL(text)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must begin with https:// or http://'
  if (url.username !== '' || url.password !== '') return 'holds a user name or a password, which would be kept in Redis; take it out, receivers check the signature'
  if (url.hash !== '') return 'holds a fragment ("#…"), which is never sent; take it out'
  return undefined
}

export const webhookUrl = z.string({ error: 'must be a URL such as "https://example.com/hooks/switchyard"' }).superRefine((text, context) => {
  const problem = webhookUrlProblem(text)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
})

export const signingSecretName = z
  .string({ error: 'is missing; give the name of the variable that holds the signing secret where webhooks are delivered' })
  .regex(/^[A-Za-z_]\w*$/, 'must be the name of a variable, of letters, digits and "_", not the secret itself')
  .max(200, 'is longer than 200 characters; give the name of a variable, not the secret itself')

/** A webhook as a job names it. */
export const jobWebhookSchema = z.strictObject({
  url: webhookUrl.describe('Where events are posted to.'),
  events: eventKindsSchema.min(1, 'is empty; leave it out to be told of the end alone').optional().describe('Which events. Default ["completed"].'),
  secretName: signingSecretName.describe('The name of the signing secret; its value lives where webhooks are delivered, and never enters the queue.'),
})
export type JobWebhook = z.output<typeof jobWebhookSchema>

/** What a job asks to be told of, as its run's record keeps it: the spec may be gone when there is something to tell. */
export interface Asked {
  readonly events?: EventKind[] | undefined
  readonly webhooks?: JobWebhook[] | undefined
}

/** What a spec asks for; undefined when it asks for nothing. */
export function askedBy({ events, webhooks }: Asked): Asked | undefined {
  if ((events ?? []).length === 0 && (webhooks ?? []).length === 0) return undefined
  return { ...(events === undefined ? {} : { events }), ...(webhooks === undefined ? {} : { webhooks }) }
}

/** A webhook of the job that an event goes to, as the event's entry names it. */
export interface Hook {
  /** Its number among the job's webhooks, from 0. */
  readonly n: number
  readonly url: string
  /** The name of its signing secret. */
  readonly secret: string
}

/** The webhooks of a job that an event of this kind goes to. */
export function hooksFor(kind: EventKind, asked: Asked | undefined): Hook[] {
  const hooks = (asked?.webhooks ?? []).map(({ url, events, secretName }, n) => ({ n, url, secret: secretName, events: events ?? ['completed'] }))
  return hooks.filter(({ events }) => events.includes(kind)).map(({ n, url, secret }) => ({ n, url, secret }))
}

/**
 * Whether an event is to be written.
 * @param everywhere what the deployment wants of all jobs.
 */
export function isAsked(kind: EventKind, asked: Asked | undefined, everywhere: readonly EventKind[]): boolean {
  return kind === 'completed' || everywhere.includes(kind) || (asked?.events ?? []).includes(kind) || hooksFor(kind, asked).length > 0
}

/** Whether anything but the end is to be told of a job. */
export function asksForEarly(asked: Asked | undefined, everywhere: readonly EventKind[]): boolean {
  return eventKinds.some((kind) => kind !== 'completed' && isAsked(kind, asked, everywhere))
}
