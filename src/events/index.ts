export {
  type CompletionEvent,
  completionEvent,
  completionEventId,
  completionEventSchema,
  defaultEventSource,
  parseCompletionEvent,
  type TrimmedEvent,
} from './completion-event.js'
export { type DeadEvent, EventGroups } from './event-groups.js'
export type { SubscribeOptions } from './subscribe-options.js'
export { type EventHandler, subscribe, type Subscription } from './subscription.js'
