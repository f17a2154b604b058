export type { RunnerOptions } from './calls.js'
export { createRunner } from './client.js'
export { LfsUploadError } from './failures.js'
export type * from './runner.js'
