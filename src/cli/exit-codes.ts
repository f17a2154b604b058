import {
  CheckpointGoneError,
  IdempotencyConflictError,
  InfrastructureError,
  InvalidInputError,
  KeyTakenError,
  RedisUnavailableError,
  SwitchyardError,
  UnknownJobError,
  UnknownNameError,
  UnknownScheduleError,
  errorMessage,
} from '../job/errors.js'

/** What a script can read from `switchyard`'s exit. They are part of its interface: the docs and `--help` list them. */
export const exitCodes = {
  ok: 0,
  /** The job failed or was cancelled; for the demo, one of its jobs did not end as intended. */
  jobFailed: 1,
  /** Wrong usage, a wrong job, a wrong configuration. Nothing was done. */
  badInput: 2,
  /** Redis, the git host or a provider can't be used now. */
  unavailable: 3,
  /** There is no such job, schedule, provider, tenant or consumer. */
  notFound: 4,
  /** A defect of Switchyard's own. */
  internal: 70,
  /** Stopped by Ctrl-C. */
  interrupted: 130,
} as const
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** The list for `--help`. */
export const exitCodesHelp = `Exit codes:
  0    done; with --wait: the job succeeded
  1    the job failed or was cancelled
  2    wrong usage, job or configuration; nothing was done
  3    Redis, the git host or a provider can't be used now
  4    there is no such job, schedule, provider, tenant or consumer
  70   a defect of Switchyard's own
  130  stopped by Ctrl-C`

/** The exit code that an error means, and the lines to say about it. */
export function explainFailure(error: unknown): { readonly code: ExitCode; readonly lines: readonly string[] } {
  if (error instanceof InvalidInputError) return { code: exitCodes.badInput, lines: error.problems }
  if (error instanceof CheckpointGoneError || error instanceof KeyTakenError) return { code: exitCodes.badInput, lines: [error.message] }
  if (error instanceof IdempotencyConflictError) return { code: exitCodes.badInput, lines: [error.message] }
  if (error instanceof UnknownJobError || error instanceof UnknownScheduleError || error instanceof UnknownNameError) return { code: exitCodes.notFound, lines: [error.message] }
  if (error instanceof RedisUnavailableError) return { code: exitCodes.unavailable, lines: [error.message] }
  if (error instanceof InfrastructureError) {
    return { code: error.kind === 'invalid' ? exitCodes.badInput : exitCodes.unavailable, lines: [error.message] }
  }
  // What else Switchyard throws on purpose is about something missing on this machine.
  if (error instanceof SwitchyardError) return { code: exitCodes.unavailable, lines: [error.message] }
  const stack = error instanceof Error && error.stack !== undefined ? error.stack.split('\n').slice(1, 6) : []
  return { code: exitCodes.internal, lines: [`unexpected error: ${errorMessage(error)}`, ...stack] }
}
