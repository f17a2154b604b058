export { createRunner, type RunnerOptions } from './first/client.js'
export type * from './runner.js'
