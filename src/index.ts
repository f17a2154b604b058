/** What backend services use: enqueue jobs, wait for them, read their output, follow their ends. */
export * from './producers/index.js'
export { type CompletionEvent, completionEventSchema, type EventKind, type JobEvent, jobEventSchema, parseCompletionEvent } from './events/index.js'
export * from './job/errors.js'
export type { LogChunk, LogLine } from './job/log.js'
export * from './job/result.js'
export { type JobSpec, type JobSpecInput, jobSpecSchema, parseJobSpec, type Step } from './job/spec.js'
export type { JobStatus } from './job/status.js'
