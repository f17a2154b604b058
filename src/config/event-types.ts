import { type EventKind, eventKinds } from '../job/event-kinds.js'
import type { Config } from './schema.js'

/** What is told of every job of a deployment besides its end: what is configured, and what its webhooks are to be told of. */
export function eventTypesOf({ events, webhooks }: Pick<Config, 'events' | 'webhooks'>): EventKind[] {
  const asked = new Set([...events.types, ...webhooks.endpoints.flatMap((endpoint) => endpoint.events)])
  return eventKinds.filter((kind) => kind !== 'completed' && asked.has(kind))
}
