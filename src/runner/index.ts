export { createRunner, type RunnerOptions } from './client.js'
export type * from './runner.js'
