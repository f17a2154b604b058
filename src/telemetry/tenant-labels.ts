/** How many tenants have a label of their own at once; all others share `other`. */
export const mostTenants = 50
/** How many tenants are counted besides, to find out who has become busy. */
const mostCounted = 1_000
/** How much of what a tenant did counts after an hour: half. */
const halfLifeMs = 3_600_000
/** How much busier than the least busy one with a label a tenant must be to take its place: without it two alike would take turns. */
const clearly = 2

export const otherLabel = 'other'

/**
 * Which tenants a metric tells apart: the 50 busiest, by what they have done lately. A tenant that gets a label keeps it until another is clearly
 * busier, so that series do not come and go. What it did before it had one stays under `other`, which so never goes down.
 */
export class TenantLabels {
  private readonly scores = new Map<string, number>()
  private readonly labelled = new Set<string>()
  private decayedAtMs: number

  /** @param onDropped told of a tenant that lost its label: its series are to go. */
  constructor(
    private readonly onDropped: (label: string) => void,
    private readonly now: () => number = () => performance.now(),
    private readonly most = mostTenants,
  ) {
    this.decayedAtMs = now()
  }

  /** The label for something that a tenant does now. The empty name stands for jobs without a tenant, and has its label always. */
  labelFor(tenant: string): string {
    if (tenant === '') return ''
    this.decay()
    const score = (this.scores.get(tenant) ?? 0) + 1
    this.count(tenant, score)
    if (!this.labelled.has(tenant) && !this.admit(tenant, score)) return otherLabel
    return shownLabel(tenant)
  }

  private admit(tenant: string, score: number): boolean {
    if (this.labelled.size >= this.most) {
      const [least, leastScore] = [...this.labelled].map((name) => [name, this.scores.get(name) ?? 0] as const).reduce((left, right) => (right[1] < left[1] ? right : left))
      if (score < clearly * leastScore + 1) return false
      this.labelled.delete(least)
      this.onDropped(shownLabel(least))
    }
    this.labelled.add(tenant)
    return true
  }

  private count(tenant: string, score: number): void {
    if (!this.scores.has(tenant) && this.scores.size >= mostCounted + this.most) {
      // The first that is not labelled: the one that was quiet for longest.
      for (const name of this.scores.keys()) {
        if (this.labelled.has(name)) continue
        this.scores.delete(name)
        break
      }
    }
    // Behind the others: whoever did something lately is forgotten last.
    this.scores.delete(tenant)
    this.scores.set(tenant, score)
  }

  private decay(): void {
    const now = this.now()
    const passedMs = now - this.decayedAtMs
    if (passedMs < 60_000) return
    this.decayedAtMs = now
    for (const [tenant, score] of this.scores) this.scores.set(tenant, score * 0.5 ** (passedMs / halfLifeMs))
  }
}

/** A tenant, or a group of readers, may be called what stands for the rest. */
export function shownLabel(name: string): string {
  return name === otherLabel ? `"${otherLabel}"` : name
}
