/** What is told of a job whose concurrency key is another's begins so; see lua/concurrency.lua. */
const ofAnotherJob = /^(superseded by|dropped:) job /

/** The code of a cancelled job, by the reason that was given. */
export function cancelCode(reason: string): 'SWY_CANCELLED' | 'SWY_SUPERSEDED' {
  return ofAnotherJob.test(reason) ? 'SWY_SUPERSEDED' : 'SWY_CANCELLED'
}
