import { constraintsSchema, type Constraints } from '../../job/constraints.js'
import { errorMessage } from '../../job/errors.js'
import type { Dispatched, ProviderLoad } from '../../store/index.js'
import { candidatesOf } from '../placing/candidates.js'
import { eligibleProviders, placementOrder } from '../placing/placement.js'
import type { ConsumerContext } from '../consumer-context.js'
import { missingSecretsSentence } from './fitness.js'

/** How many constraints of jobs that wait no more are remembered; past it all are forgotten, and those that are there are learned anew. */
const mostStale = 500
/** How many refusals are told at once. */
const toldAtOnce = 64

type Parts = Pick<ConsumerContext, 'providers' | 'policy' | 'now' | 'log' | 'deploymentProviders'> & {
  readonly git: { readonly hosts: readonly string[] }
  readonly keys: Pick<ConsumerContext['keys'], 'isRefused'>
}

/** What the waiting jobs ask of a consumer, as far as this one was told, and where it would have them run. */
export class WaitingConstraints {
  /** Null for constraints that can't be read: of a later release, or of none. */
  private readonly known = new Map<string, Constraints | null>()
  /** Those that no live consumer can run, as the index said. */
  private readonly givenUp = new Set<string>()
  /** What this consumer can't run, and why, as of the last `orders`. */
  private refused: { readonly id: string; readonly why: string }[] = []
  private toldUpTo = 0
  private loads: readonly ProviderLoad[] = []

  constructor(private readonly parts: Parts) {}

  /**
   * For each: the providers that can run such a job now, the best first; none when this consumer can't; null when nobody ever can, so that
   * it is taken and says so.
   * @param secrets names of those that this consumer has; `*` for all.
   */
  orders(secrets: readonly string[]): Map<string, readonly string[] | null> {
    const { providers, policy, now, git, keys, deploymentProviders } = this.parts
    const candidates = candidatesOf(providers, this.loads, git.hosts)
    const around = deploymentProviders()
    const refused: { id: string; why: string }[] = []
    const orders = new Map(
      [...this.known].map(([id, constraints]) => {
        const why = constraints === null ? 'what it asks for can’t be read by this release' : this.problem(constraints, candidates, around, secrets)
        if (constraints === null || typeof why === 'string') {
          refused.push({ id, why: String(why) })
          return [id, this.givenUp.has(id) ? null : []]
        }
        const eligible = why.filter((provider) => !keys.isRefused({ provider }))
        const job = { ...constraints, prefer: constraints.providers.prefer, resumes: constraints.resumes === true, eligible, attempts: [], exclusions: new Map<string, never>() }
        return [id, placementOrder(candidates, job, policy, now())]
      }),
    )
    this.refused = refused
    return orders
  }

  /** The next of what this consumer can't run, for the index to know; each in its turn. */
  nextRefused(): readonly { readonly id: string; readonly why: string }[] {
    if (this.toldUpTo >= this.refused.length) this.toldUpTo = 0
    const next = this.refused.slice(this.toldUpTo, this.toldUpTo + toldAtOnce)
    this.toldUpTo += next.length
    return next
  }

  /** No live consumer can run these. */
  giveUp(ids: Iterable<string>): void {
    for (const id of ids) this.givenUp.add(id)
  }

  learn({ loads, unknown, constraints }: Pick<Dispatched, 'loads' | 'unknown' | 'constraints'>): void {
    this.loads = loads
    if (this.known.size > constraints + mostStale) {
      this.known.clear()
      this.givenUp.clear()
    }
    for (const [id, json] of unknown) this.known.set(id, this.read(json))
  }

  /** The providers that can run such a job, or why this consumer can't. */
  private problem(constraints: Constraints, candidates: Parameters<typeof eligibleProviders>[1], around: readonly string[], secrets: readonly string[]): readonly string[] | string {
    const missing = secrets.includes('*') ? [] : (constraints.secrets ?? []).filter((name) => !secrets.includes(name))
    if (missing.length > 0) return missingSecretsSentence(missing)
    const eligibility = eligibleProviders(constraints, candidates, around)
    return eligibility.ok ? eligibility.providers : eligibility.problem
  }

  private read(json: string): Constraints | null {
    try {
      return constraintsSchema.parse(JSON.parse(json))
    } catch (error) {
      this.parts.log.error({ message: errorMessage(error) }, 'constraints of a waiting job can’t be read; it is left to a consumer that can')
      return null
    }
  }
}
