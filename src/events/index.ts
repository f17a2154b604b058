export {
  type CompletionEvent,
  completionEvent,
  completionEventId,
  completionEventSchema,
  defaultEventSource,
  parseCompletionEvent,
  type TrimmedEvent,
} from './completion-event.js'
export { checkKinds, type JobEvent, type JobEventOf, jobEventSchema, kindOf } from './job-event.js'
export { type EventKind, eventKinds } from '../job/event-kinds.js'
export { type DeadEvent, EventGroups, type KeptEvent } from './event-groups.js'
export type { TrimmedBehind } from '../store/index.js'
export type { EventPoint, SubscribeOptions } from './subscribe-options.js'
export { type EventHandler, RetryLaterError, subscribe, type Subscription } from './subscription.js'
