export { AgentQueue, type AgentQueueOptions } from './agent-queue.js'
export type { JobHandle } from './job-handle.js'
export { ResultTimeoutError } from './result-waiter.js'
export { subscribe, type EventHandler, type SubscribeOptions, type Subscription } from '../events/index.js'
