import type { RunPhase } from '../../job/run-record.js'
import type { Stand } from '../../store/index.js'
import type { Eligibility } from '../placing/placement.js'

/** A job that BullMQ gave to this consumer, and what this consumer has for it. */
export interface TakenFacts {
  readonly stand: Stand
  /** Names of secrets that it asks for and this consumer lacks. */
  readonly missingSecrets: readonly string[]
  /** Of a job that has begun: its phase and where its sandbox is, or is being made; null when there is none. */
  readonly phase: RunPhase | null
  readonly provider: string | null
  /** Whether this consumer has that provider, with a key that is taken. */
  readonly reachesProvider: boolean
  /** Whether this consumer could begin such a job at all. */
  readonly eligibility: Eligibility
  /** Why the key of every provider that is eligible is refused here; null when one is taken. */
  readonly keyProblem: string | null
  readonly cancelled: boolean
  /** What BullMQ says of a child of its flow that has failed, and whose failure is to be this job's too; null when there is none. */
  readonly failedChild: string | null
}

/** What a consumer does with a job that it was given. */
export type Fitness =
  | { readonly kind: 'run' }
  /** Its sandbox is out of everybody's reach: go on at another provider. */
  | { readonly kind: 'move' }
  /** Nobody can run it, or it is not to be run: end it with that reason. `owner`: whose fault that is. */
  | { readonly kind: 'end'; readonly reason: string; readonly owner: 'deployment' | 'job' }
  /** It has waited for as long as it may. `waitingFor`: what for, when consumers have said it. */
  | { readonly kind: 'overdue'; readonly waitingFor: string | null }
  /** It is for others. `passing`: this consumer may be able to run it later. */
  | { readonly kind: 'leave'; readonly reason: string; readonly passing: boolean }

/**
 * What to do with a job that was in somebody's hands, or that was chosen by what an older release knew of it. Only what has a need of the
 * sandbox asks for its provider: a promotion and a job's end need none.
 */
export function judgeFitness(facts: TakenFacts): Fitness {
  const { stand, missingSecrets, phase, provider, reachesProvider, eligibility, keyProblem, cancelled, failedChild } = facts
  const ends = phase === 'closing' || phase === 'ended'
  if (stand.kind !== 'able' && (cancelled || ends)) return { kind: 'run' }
  // One that has begun goes on: what it does is worth more than how BullMQ counts it.
  if (failedChild !== null && !cancelled && (phase === null || phase === 'placing')) return { kind: 'end', reason: failedChildSentence(failedChild), owner: 'job' }
  if (stand.kind === 'overdue') return { kind: 'overdue', waitingFor: stand.reasons.length === 0 ? null : `waiting for a consumer that can run it (${stand.reasons.join('; and ')})` }
  if (stand.kind === 'nobody') return { kind: 'end', reason: nobodySentence(stand.reasons), owner: 'deployment' }
  const away = provider !== null && !reachesProvider && phase !== 'promoting'
  if (!ends && missingSecrets.length > 0) return { kind: 'leave', reason: missingSecretsSentence(missingSecrets), passing: false }
  if (away && stand.kind !== 'stranded') return { kind: 'leave', reason: `its sandbox is at ${provider}, which this consumer does not reach`, passing: true }
  if (phase === 'promoting' || ends || (provider !== null && !away)) return { kind: 'run' }
  // It needs a place at one of this consumer's providers, for the first time or anew.
  if (!eligibility.ok) return { kind: 'leave', reason: eligibility.problem, passing: false }
  if (keyProblem !== null) return { kind: 'leave', reason: keyProblem, passing: true }
  return { kind: away ? 'move' : 'run' }
}

export function missingSecretsSentence(names: readonly string[]): string {
  return `secrets: no consumer has ${names.join(', ')}; set and allow ${names.length === 1 ? 'it' : 'them'} in consumer.secrets (for "switchyard dev": --secret NAME, or .env), or take ${names.length === 1 ? 'it' : 'them'} out of the spec`
}

/** Why a job ends before it has begun whose flow has failed. `failedChild`: such as "child {switchyard}:agents:a failed". */
function failedChildSentence(failedChild: string): string {
  return `it is the parent of a flow, and ${failedChild}; run the child again and then this job, or add such children without failParentOnFailure`
}

/** Why a job ends that no live consumer can run. */
export function nobodySentence(reasons: readonly string[]): string {
  return `no live consumer of this deployment can run this job: ${reasons.length === 0 ? 'none has what it needs' : reasons.join('; and ')}`
}
