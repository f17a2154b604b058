export {
  type CompletionEvent,
  completionEvent,
  completionEventId,
  completionEventSchema,
  defaultEventSource,
  parseCompletionEvent,
} from './completion-event.js'
export { type EventHandler, subscribe, type SubscribeOptions, type Subscription } from './subscription.js'
