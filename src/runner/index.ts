export type { RunnerOptions } from './calls.js'
export { createRunner } from './client.js'
export type * from './runner.js'
