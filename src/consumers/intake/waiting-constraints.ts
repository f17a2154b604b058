import { constraintsSchema, type Constraints } from '../../job/constraints.js'
import { errorMessage } from '../../job/errors.js'
import type { ChoiceInGroup, Dispatched, KnownConstraints, ProviderLoad } from '../../store/index.js'
import { candidatesOf } from '../placing/candidates.js'
import { eligibleProviders, placementGroups, placementOrder, type Candidate } from '../placing/placement.js'
import type { ConsumerContext } from '../consumer-context.js'
import { missingSecretsSentence } from './fitness.js'

/** How many constraints' refusals are remembered. */
const mostRefused = 10_000
/** For how many constraints the order of a policy function follows the loads. */
const mostFollowed = 100
/** How many refusals are told at once. */
const toldAtOnce = 64

type Parts = Pick<ConsumerContext, 'providers' | 'policy' | 'now' | 'log' | 'deploymentProviders'> & { readonly git: { readonly hosts: readonly string[] } }

/**
 * What the waiting jobs ask of a consumer, as the index asked it, and what it answers: where it would have them run. It says so once; of what it
 * can't run it repeats the reason, so that nobody waits for consumers that have gone.
 */
export class WaitingConstraints {
  /** Those that this consumer can't run, and why. */
  private readonly refused = new Map<string, string>()
  private order: string[] = []
  /** By a policy function the order follows the loads: what was said, by id. */
  private readonly said = new Map<string, { readonly number: number; readonly constraints: Constraints; readonly groups: string }>()
  private toSay: KnownConstraints[] = []
  /** Of the last look. The index knows of each view up to where it has said something: what was asked of one is not to be said in another's name. */
  private viewId = ''
  private loads: readonly ProviderLoad[] = []

  constructor(private readonly parts: Parts) {}

  /** How the index chooses in a group. */
  get choice(): ChoiceInGroup {
    const { policy } = this.parts
    if (typeof policy === 'function') return 'own'
    return policy === 'most-free' || policy === 'fastest' ? policy : 'given'
  }

  /** Takes what is to be said with the next look, in this view's name; `unsaid` puts it back. */
  take(viewId: string): readonly KnownConstraints[] {
    if (viewId !== this.viewId) {
      this.viewId = viewId
      this.toSay = []
      this.said.clear()
    }
    const known = this.toSay
    this.toSay = []
    if (typeof this.parts.policy === 'function') known.push(...this.changed())
    return known
  }

  /** The look failed: nobody may have heard it. */
  unsaid(known: readonly KnownConstraints[]): void {
    this.toSay.unshift(...known)
  }

  /**
   * Learns what the index asked for.
   * @param secrets names of those that this consumer has; `*` for all.
   */
  learn({ loads, unknown }: Pick<Dispatched, 'loads' | 'unknown'>, secrets: readonly string[]): void {
    // They come only where an order may follow from them.
    if (loads.length > 0) this.loads = loads
    this.answer(unknown, secrets)
  }

  /** As `learn`, of what it is asked about between its looks. */
  hear({ view, about }: { readonly view: string; readonly about: Dispatched['unknown'] }, secrets: readonly string[]): void {
    if (view === this.viewId) this.answer(about, secrets)
  }

  private answer(unknown: Dispatched['unknown'], secrets: readonly string[]): void {
    if (unknown.length === 0) return
    const { providers, git, deploymentProviders } = this.parts
    const candidates = candidatesOf(providers, this.loads, git.hosts)
    const around = deploymentProviders()
    for (const { id, number, json } of unknown) {
      const constraints = this.read(json)
      const can = constraints === null ? 'what it asks for can’t be read by this release' : this.problem(constraints, candidates, around, secrets)
      if (constraints === null || typeof can === 'string') {
        if (!this.refused.has(id)) this.order.push(id)
        this.refused.set(id, String(can))
        this.said.delete(id)
        this.toSay.push({ id, number, can: String(can) })
        continue
      }
      this.refused.delete(id)
      const groups = this.groups(constraints, can, candidates)
      if (typeof this.parts.policy === 'function') this.remember(id, { number, constraints, groups: JSON.stringify(groups) })
      this.toSay.push({ id, number, can: groups })
    }
  }

  /** The next of what this consumer can't run, for the index to know; each in its turn. */
  nextRefused(): readonly { readonly id: string; readonly why: string }[] {
    const next = this.order.splice(0, toldAtOnce)
    const told = next.flatMap((id) => {
      const why = this.refused.get(id)
      return why === undefined ? [] : [{ id, why }]
    })
    this.order.push(...told.map(({ id }) => id))
    while (this.order.length > mostRefused) this.refused.delete(this.order.shift() ?? '')
    return told
  }

  /** Providers in the order in which such a job is placed; those that the index is to choose among are one group. */
  private groups(constraints: Constraints, eligible: readonly string[], candidates: readonly Candidate[]): string[][] {
    const { policy, now } = this.parts
    const job = { ...constraints, prefer: constraints.providers.prefer, resumes: constraints.resumes === true, eligible, attempts: [], exclusions: new Map<string, never>() }
    if (this.choice === 'most-free' || this.choice === 'fastest') return placementGroups(candidates, job, 'priority', now()).map((group) => group.toSorted())
    const order = placementOrder(candidates, job, policy, now())
    return order.length === 0 ? [] : [order]
  }

  private remember(id: string, what: { number: number; constraints: Constraints; groups: string }): void {
    this.said.delete(id)
    this.said.set(id, what)
    const [oldest] = this.said.keys()
    if (this.said.size > mostFollowed && oldest !== undefined) this.said.delete(oldest)
  }

  /** What a policy function orders otherwise than when it was said. */
  private changed(): KnownConstraints[] {
    const { providers, git } = this.parts
    const candidates = candidatesOf(providers, this.loads, git.hosts)
    return [...this.said].flatMap(([id, { number, constraints, groups }]) => {
      const eligible = eligibleProviders(constraints, candidates, this.parts.deploymentProviders())
      if (!eligible.ok) return []
      const can = this.groups(constraints, eligible.providers, candidates)
      if (JSON.stringify(can) === groups) return []
      this.said.set(id, { number, constraints, groups: JSON.stringify(can) })
      return [{ id, number, can }]
    })
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
