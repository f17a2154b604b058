export {
  type CompletionEvent,
  completionEvent,
  completionEventId,
  completionEventSchema,
  defaultEventSource,
  parseCompletionEvent,
  type TrimmedEvent,
} from './completion-event.js'
export { type DeadEvent, EventGroups, type KeptEvent } from './event-groups.js'
export type { EventPoint, SubscribeOptions } from './subscribe-options.js'
export { type EventHandler, subscribe, type Subscription } from './subscription.js'
