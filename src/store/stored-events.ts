import { z } from 'zod'
import type { RunRecord } from '../job/run-record.js'

/** Events as the store takes and writes them; lua/event-append.lua adds them to the stream. */

/** A completion event as the store takes it: its JSON is appended to the event stream under its id. `hooks` are the webhooks of its job that it goes to. */
export type StoredEvent = { readonly id: string; readonly hooks?: readonly { readonly n: number }[] | undefined } | string

/** An event of a run before its end. */
export interface EarlyEvent {
  readonly id: string
  readonly kind: string
  /** Its job's id among all queues: the events of one come in their order. */
  readonly runId: string
  /** The webhooks of its job that it goes to. */
  readonly hooks: readonly { readonly n: number }[]
  readonly json: string
}

/** What is told of what a write changes: written with it, and only then. The same change is told by the same ids. */
export type Telling = (before: RunRecord, after: RunRecord) => readonly EarlyEvent[]

/** What the stream of completion events keeps; whichever bound is reached first counts, when an event is added. */
export interface EventBounds {
  /** About how many events: Redis trims by whole nodes of up to 100. */
  readonly maxCount: number
  /** How many bytes of them, as JSON. */
  readonly maxBytes: number
  /** For how many milliseconds, by Redis' clock. */
  readonly maxAgeMs: number
}

export function eventParts(event: StoredEvent): { id: string; json: string; hooks: string } {
  if (typeof event !== 'string') return { id: event.id, json: JSON.stringify(event), hooks: numbersOf(event.hooks) }
  return { id: z.object({ id: z.string() }).parse(JSON.parse(event)).id, json: event, hooks: '' }
}

/** As lua/event-append.lua takes them. */
export function earlyArguments({ id, kind, runId, hooks, json }: EarlyEvent): string[] {
  return [id, kind, runId, numbersOf(hooks), json]
}

export function numbersOf(hooks: readonly { readonly n: number }[] = []): string {
  return hooks.map(({ n }) => n).join(' ')
}
