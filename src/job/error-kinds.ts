/**
 * The one vocabulary of errors. Every adapter sorts its raw errors into these kinds, in one function each, and every
 * decision (try again here, go elsewhere, give up) reads the kind and whose fault it is (`ErrorOwner`), and nothing else.
 *
 * - `capacity`: the provider is full. Go elsewhere or wait; not a failure.
 * - `rate-limited`: too many calls; wait `retryAfterMs`, or go elsewhere.
 * - `transient`: a passing fault; try again here, a bounded number of times.
 * - `sandbox-lost`: the sandbox is gone, confirmed with the provider's own get or list; go elsewhere.
 * - `provider-down`: the provider does not work; feeds the circuit breaker; go elsewhere.
 * - `auth`: credentials are missing or refused. Final for this provider or host; somebody must mend them.
 * - `invalid`: the request can never succeed as it is. Final.
 * - `timeout`: the job's or the step's own time is up. Final.
 */
export const infrastructureErrorKinds = [
  'capacity',
  'rate-limited',
  'transient',
  'sandbox-lost',
  'provider-down',
  'auth',
  'invalid',
  'timeout',
] as const
export type InfrastructureErrorKind = (typeof infrastructureErrorKinds)[number]

/**
 * What can end a job besides its infrastructure:
 * - `step-failed`: a command exited with another code than 0. A result, not an infrastructure error; never retried.
 * - `conflict`: the promotion's target moved or conflicts; the work is on the job's own branch.
 * - `cancelled`: somebody cancelled the job.
 * - `internal`: a defect of Switchyard's own. Report it.
 */
export const jobErrorKinds = [...infrastructureErrorKinds, 'step-failed', 'conflict', 'cancelled', 'internal'] as const
export type JobErrorKind = (typeof jobErrorKinds)[number]
