import { constraintsOf } from '../../../src/job/constraints.js'
import type { ProviderLimit, ReadyJob } from '../../../src/store/index.js'
import { caps, limits, members } from './deployment.js'

/** How a job's last run stands, as far as the walks go. */
export interface ModelRun {
  readonly generation: number
  /** Null while it goes on. */
  end: 'succeeded' | 'failed' | 'cancelled' | null
  /** How many steps it has done; null when nobody has taken it before it was cancelled. */
  done: number | null
  /** How many of them its last checkpoint holds, and its branch. */
  checkpoint: { readonly steps: number; readonly branch: string } | null
  /** It pushes, or promotes: from then on no newer job supersedes it. */
  concludes: boolean
  /** It was asked to end as cancelled. */
  cancel: boolean
}

/**
 * A job, as the queue has it:
 *
 *   delayed  it is not to be run yet
 *   around   BullMQ holds it as waiting, and the index is to find it
 *   waiting  and the index lists it
 *   given    chosen, or put back: it stands where BullMQ gives the next job from
 *   back     given back by one that has not said so yet: it is in hand still, and is to be found
 *   taken    in a consumer's hands
 *   parked   it has begun, and BullMQ is to put it back when there is a budget for it
 *   lost     removed while it was in hand, which is to be found
 *   ended    BullMQ has ended it, and can run it again
 *   gone     BullMQ does not hold it
 */
export type State = 'delayed' | 'around' | 'waiting' | 'given' | 'back' | 'taken' | 'parked' | 'lost' | 'ended' | 'gone'

export interface ModelJob {
  readonly id: string
  readonly queue: string
  readonly tenant: string
  readonly cpu: number
  readonly allow: readonly string[] | undefined
  readonly spec: ReadyJob['spec']
  readonly key: string | undefined
  /** How many of its key may run at once beside it. */
  readonly limit: number
  /** A newer one has taken its key, or it was dropped: `waiting` when it was not in hand then. */
  superseded?: 'waiting' | 'in hand' | undefined
  /** It was cancelled, or superseded, once it had begun and waited; it holds no key from then on. */
  ending?: 'waiting' | 'in hand' | undefined
  state: State
  /** Its time to wait is over, so that it is taken to be ended before anything is begun, wherever it stands; it holds no key. */
  overdue: boolean
  /** The index has seen it: what that says of its id before was of another job, which was removed. */
  seen: boolean
  run: ModelRun | null
  /** Its last run has ended, and it is to be run again; or is that of another job, which was removed, under whose id this one was added. */
  again: boolean
  /** That run goes on from the checkpoint of the last one. */
  wish: boolean
}

/** What whoever acquires a job is to find: its run has ended; goes on; or begins, from a checkpoint of the run before or the start. */
export type Found = { readonly kind: 'ended' } | { readonly kind: 'goes on'; readonly generation: number } | { readonly kind: 'begins'; readonly generation: number; readonly from: ModelRun['checkpoint'] }

export function foundBy({ run, again, wish }: Pick<ModelJob, 'run' | 'again' | 'wish'>): Found {
  if (run === null) return { kind: 'begins', generation: 1, from: null }
  if (run.end === null && !again) return { kind: 'goes on', generation: run.generation }
  return again ? { kind: 'begins', generation: run.generation + 1, from: wish ? run.checkpoint : null } : { kind: 'ended' }
}

/** What a job can be gone on from: nothing was done, so that it is the start; its checkpoint; or nothing, because what it has done is saved nowhere. */
export function continuation({ end, done, checkpoint }: ModelRun, branches: ReadonlySet<string>): 'start' | 'checkpoint' | 'nothing' {
  if (end === 'succeeded') return 'nothing'
  if (checkpoint !== null) return branches.has(checkpoint.branch) ? 'checkpoint' : 'nothing'
  return (done ?? 0) === 0 ? 'start' : 'nothing'
}

const handStates: readonly State[] = ['given', 'back', 'taken', 'lost']

/** Of those that were superseded, or cancelled, while they waited no place and no account is known. */
export function isInHand({ state, superseded, ending }: ModelJob): boolean {
  return handStates.includes(state) && superseded !== 'waiting' && ending !== 'waiting'
}

export interface Used {
  readonly jobs: number
  readonly cpu: number
}

/** What there is, and the rules by which it may be given. Nothing here looks at Redis. */
export class Model {
  readonly jobs = new Map<string, ModelJob>()
  readonly paused = new Set<string>()
  /** What waits for a budget: queue, constraints and tenant. */
  readonly unpaid = new Map<string, { readonly tenant: string; readonly epoch: string; readonly queue: string }>()
  /** What operators said: providers without new places, other limits than the configured; tenants whose jobs wait on, other shares than the configured. */
  readonly said = { drained: new Set<string>(), limits: new Map<string, number>(), pausedTenants: new Set<string>(), shares: new Map<string, { readonly cap: number | undefined }>() }
  /** Queue and key where something was removed that the index may still have before others. */
  readonly unsure = new Set<string>()
  /** Branches that are at the git host. */
  readonly branches = new Set<string>()

  of(queue: string, ...states: State[]): ModelJob[] {
    return [...this.jobs.values()].filter((job) => job.queue === queue && states.includes(job.state))
  }

  get all(): ModelJob[] {
    return [...this.jobs.values()]
  }

  /** How many places a provider gives by what is configured and what operators said. */
  limitOf({ provider, sandboxes }: ProviderLimit): number {
    return this.said.drained.has(provider) ? 0 : (this.said.limits.get(provider) ?? sandboxes)
  }

  capOf(tenant: string): number {
    return this.said.pausedTenants.has(tenant) ? 0 : (this.said.shares.get(tenant)?.cap ?? caps[tenant] ?? Infinity)
  }

  inHandOf(tenant: string): number {
    return this.all.filter((job) => job.tenant === tenant && isInHand(job)).length
  }

  /** Where it may run: its queue's consumers' providers that it allows. */
  homes(job: ModelJob): string[] {
    return members.filter(({ queue }) => queue === job.queue).flatMap(({ providers }) => providers.filter((name) => job.allow?.includes(name) ?? true))
  }

  /** What stands alike in the index is held for a budget together; what has begun stands by itself. */
  standsWith({ queue, tenant, spec, run }: Pick<ModelJob, 'queue' | 'tenant' | 'spec' | 'run'>): string {
    return `${queue} ${constraintsOf(spec, run?.end === null).id} ${tenant}`
  }

  /** Who holds a key: those in hand, but for whom a newer one has superseded. */
  holdersOf(key: string): ModelJob[] {
    return this.all.filter((job) => job.key === key && job.superseded === undefined && job.ending === undefined && !job.overdue && isInHand(job))
  }

  /** Jobs that have a place among these providers. */
  runnable(load: ReadonlyMap<string, Used>, providers: readonly string[], which: (job: ModelJob) => boolean, scores: ReadonlyMap<string, number>, holdNoKey?: ReadonlySet<ModelJob>): ModelJob[] {
    return this.all.filter((job) => {
      if (!which(job) || !this.mayHaveKey(job, scores, holdNoKey) || this.inHandOf(job.tenant) >= this.capOf(job.tenant) || this.unpaid.has(this.standsWith(job))) return false
      return limits.some((limit) => {
        const { provider, cpu } = limit
        const used = load.get(provider) ?? { jobs: 0, cpu: 0 }
        return providers.includes(provider) && (job.allow?.includes(provider) ?? true) && used.jobs < this.limitOf(limit) && (cpu === undefined || used.cpu + job.cpu <= cpu)
      })
    })
  }

  /**
   * Whether its key has room for it, and it is among the first of its queue that wait for that, by the strictest limit of all these. Not where something
   * may be before it that the index is still to find gone, or elsewhere.
   * @param holdNoKey who had been superseded by then; left out, whoever is now.
   */
  mayHaveKey(job: ModelJob, scores: ReadonlyMap<string, number>, holdNoKey?: ReadonlySet<ModelJob>): boolean {
    const { key, queue } = job
    if (key === undefined) return true
    if (this.unsure.has(`${queue} ${key}`) || this.of(queue, 'around').some((other) => other.key === key)) return false
    const all = this.all.filter((other) => other.key === key && (holdNoKey === undefined ? other.superseded === undefined : !holdNoKey.has(other)))
    const holding = all.filter(({ state, overdue, ending }) => handStates.includes(state) && !overdue && ending === undefined)
    // One of another queue that lets fewer run may have come before it.
    if (all.some((other) => other.queue !== queue && other.state === 'waiting' && other.limit <= holding.length && holding.some(({ limit }) => limit > other.limit))) return false
    const score = ({ id }: ModelJob) => scores.get(`${queue} ${id}`) ?? Infinity
    const ahead = all.filter((other) => other.queue === queue && other.state === 'waiting' && score(other) < score(job))
    // One with a stricter limit keeps what is behind it in the line from room that only these would have.
    return ahead.length < Math.min(...[job, ...holding, ...ahead].map(({ limit }) => limit)) - holding.length
  }
}
