import type { GitHost } from '../../git/host.js'
import { constraintsSchema, type Constraints } from '../../job/constraints.js'
import { errorMessage } from '../../job/errors.js'
import type { Dispatched, ProviderLoad } from '../../store/index.js'
import { candidatesOf } from '../placing/candidates.js'
import { eligibleProviders, placementOrder } from '../placing/placement.js'
import type { ConsumerContext } from '../consumer-context.js'

/** How many constraints of jobs that wait no more are remembered; past it all are forgotten, and those that are there are learned anew. */
const mostStale = 500

/** What the waiting jobs ask of a provider, as far as this consumer was told, and where it would have them run. */
export class WaitingConstraints {
  /** Null for constraints that can't be read: such a job is taken, and fails with the reason. */
  private readonly known = new Map<string, Constraints | null>()
  private loads: readonly ProviderLoad[] = []

  constructor(private readonly context: Pick<ConsumerContext, 'providers' | 'policy' | 'now' | 'log'> & { readonly git: Pick<GitHost, 'hosts'> }) {}

  /** For each: the providers that can run such a job, the best first; null when none ever can, so that it is taken and says so. */
  orders(): Map<string, readonly string[] | null> {
    const { providers, policy, now, git } = this.context
    const candidates = candidatesOf(providers, this.loads, git.hosts)
    return new Map(
      [...this.known].map(([id, constraints]) => {
        const eligibility = constraints === null ? { ok: false as const } : eligibleProviders(constraints, candidates)
        if (constraints === null || !eligibility.ok) return [id, null]
        const job = { ...constraints, prefer: constraints.providers.prefer, eligible: eligibility.providers, attempts: [], exclusions: new Map<string, never>() }
        return [id, placementOrder(candidates, job, policy, now())]
      }),
    )
  }

  learn({ loads, unknown, constraints }: Pick<Dispatched, 'loads' | 'unknown' | 'constraints'>): void {
    this.loads = loads
    if (this.known.size > constraints + mostStale) this.known.clear()
    for (const [id, json] of unknown) this.known.set(id, this.read(json))
  }

  private read(json: string): Constraints | null {
    try {
      return constraintsSchema.parse(JSON.parse(json))
    } catch (error) {
      this.context.log.error({ message: errorMessage(error) }, 'constraints of a waiting job can’t be read; it is taken to see why')
      return null
    }
  }
}
