import type { FaultInput } from '../servers/shared-faults.js'
import type { Random } from './random.js'

/**
 * What goes wrong, and when. Made from a seed before the run, so that it can be made again; which process or sandbox is hit
 * is a number from 0 to 1 that the run turns into one of those that are there.
 */
export type FaultAction =
  | { readonly kind: 'kill-consumer'; readonly pick: number }
  | { readonly kind: 'stop-consumer'; readonly pick: number }
  | { readonly kind: 'freeze-consumer'; readonly pick: number; readonly forMs: number }
  | { readonly kind: 'restart-redis'; readonly awayMs: number }
  | { readonly kind: 'freeze-redis'; readonly forMs: number }
  | { readonly kind: 'provider-down'; readonly provider: string; readonly how: 'refuse' | 'hang'; readonly forMs: number }
  | { readonly kind: 'provider-faults'; readonly provider: string; readonly faults: readonly FaultInput[] }
  | { readonly kind: 'kill-sandbox'; readonly provider: string; readonly pick: number }
  | { readonly kind: 'git-outage'; readonly how: 'unavailable' | 'refuse'; readonly of: 'git' | 'api' | 'all'; readonly forMs: number }
  | { readonly kind: 'restart-git'; readonly awayMs: number }
  /** One consumer's git key is one that the host refuses. */
  | { readonly kind: 'stale-key'; readonly pick: number; readonly forMs: number }
  /** One consumer is replaced by one that lacks a provider, and another one later by one that has all. */
  | { readonly kind: 'narrow-consumer'; readonly pick: number; readonly provider: string; readonly forMs: number }
  /** The git host refuses one repository, for everything. */
  | { readonly kind: 'refuse-repository'; readonly repository: string; readonly forMs: number }
  /** No call into a provider's sandboxes is answered, while the provider itself says that they live. */
  | { readonly kind: 'data-plane-outage'; readonly provider: string; readonly forMs: number }
  /** A job whose commands break what the runner stands on; `pick` chooses how. */
  | { readonly kind: 'hostile-job'; readonly pick: number }
  /** One consumer's clock is wrong by hours, and then right again. */
  | { readonly kind: 'consumer-clock'; readonly pick: number; readonly byMs: number; readonly forMs: number }
  /** Redis's clock is wrong by hours, and then right again. Takes a C compiler. */
  | { readonly kind: 'redis-clock'; readonly byMs: number; readonly forMs: number }
  /** Whatever touches the disk waits `byMs` first. */
  | { readonly kind: 'slow-disk'; readonly byMs: number; readonly forMs: number }

export type FaultKind = FaultAction['kind']
export type PlannedFault = FaultAction & { readonly atMs: number }

const weights: Record<FaultKind, number> = {
  'kill-consumer': 14,
  'stop-consumer': 8,
  'freeze-consumer': 8,
  'restart-redis': 4,
  'freeze-redis': 4,
  'provider-down': 8,
  'provider-faults': 22,
  'kill-sandbox': 18,
  'git-outage': 8,
  'restart-git': 6,
  'slow-disk': 6,
  'stale-key': 6,
  'narrow-consumer': 6,
  'refuse-repository': 6,
  'data-plane-outage': 6,
  'hostile-job': 12,
  'consumer-clock': 6,
  'redis-clock': 4,
}
export const faultKinds = Object.keys(weights) as FaultKind[]
/** Whose fault it is: what concerns one job, key, host, consumer or clock, and must hurt nobody else. */
export const blameKinds: readonly FaultKind[] = ['stale-key', 'narrow-consumer', 'refuse-repository', 'data-plane-outage', 'hostile-job', 'consumer-clock', 'redis-clock']
/** Those of a run that names none; the others are asked for: they change what a seed means. */
export const usualKinds: readonly FaultKind[] = faultKinds.filter((kind) => !blameKinds.includes(kind))

/** The calls of each provider's server that are worth striking. `create` and the kill must bear losing their answers. */
const calls: Readonly<Record<string, readonly string[]>> = {
  e2b: ['create', 'kill', 'get', 'list', 'start', 'connect'],
  modal: ['create', 'kill', 'get', 'list', 'exec', 'read', 'wait'],
  daytona: ['create', 'delete', 'get', 'list', 'execute'],
}
/** HTTP statuses, and gRPC's for Modal: UNAVAILABLE, INTERNAL, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED. */
const statuses: Readonly<Record<string, readonly number[]>> = { e2b: [429, 500, 502, 503], modal: [14, 13, 8, 4], daytona: [429, 500, 502, 503] }

export interface PlanOptions {
  readonly spanMs: number
  readonly kinds: readonly FaultKind[]
  readonly servers: readonly string[]
  readonly providers: readonly string[]
  readonly repositories: readonly string[]
}

/** The calls into sandboxes, and the status with which a gateway says that they can't be reached. */
export const dataPlane: Readonly<Record<string, { readonly calls: readonly string[]; readonly status: number }>> = {
  e2b: { calls: ['start', 'attach', 'process-list', 'signal', 'input', 'files-read', 'files-write'], status: 502 },
  modal: { calls: ['exec', 'read', 'wait'], status: 14 },
  daytona: { calls: ['execute'], status: 502 },
}

/**
 * Faults in volleys with quiet between them, so that what must hold only in peace can be checked as well.
 * @param options.spanMs the last fault is over by then.
 */
export function planFaults(random: Random, options: PlanOptions): PlannedFault[] {
  const { spanMs, kinds } = options
  const chosen = Object.fromEntries(Object.entries(weights).filter(([kind]) => kinds.includes(kind as FaultKind))) as Record<FaultKind, number>
  const plan: PlannedFault[] = []
  if (kinds.length === 0) return plan
  let atMs = random.whole(1_500, 4_000)
  while (atMs < spanMs) {
    for (let left = random.whole(2, 6); left > 0 && atMs < spanMs; left--) {
      const kind = random.weighted(chosen)
      // A fault of a provider's server when there is none would change what the seed means from here on: it is left out.
      const action = makeAction(random, kind, options)
      if (action !== null) plan.push({ ...action, atMs })
      atMs += random.whole(100, 3_000)
    }
    atMs += random.whole(4_000, 14_000)
  }
  return plan
}

function makeAction(random: Random, kind: FaultKind, { spanMs, servers, providers, repositories }: PlanOptions): FaultAction | null {
  const needsServer = kind === 'provider-down' || kind === 'provider-faults' || kind === 'data-plane-outage'
  if (needsServer && servers.length === 0) return null
  switch (kind) {
    case 'kill-consumer':
    case 'stop-consumer':
      return { kind, pick: random.next() }
    case 'freeze-consumer':
      return { kind, pick: random.next(), forMs: random.whole(300, 6_000) }
    case 'restart-redis':
      return { kind, awayMs: random.whole(0, 3_000) }
    case 'freeze-redis':
      return { kind, forMs: random.whole(300, 2_500) }
    case 'provider-down':
      return { kind, provider: random.pick(servers), how: random.pick(['refuse', 'hang'] as const), forMs: random.whole(500, 8_000) }
    case 'provider-faults': {
      const provider = random.pick(servers)
      return { kind, provider, faults: Array.from({ length: random.whole(1, 5) }, () => makeFault(random, provider)) }
    }
    case 'kill-sandbox':
      return { kind, provider: random.pick(providers), pick: random.next() }
    case 'git-outage':
      return { kind, how: random.pick(['unavailable', 'refuse'] as const), of: random.pick(['git', 'api', 'all'] as const), forMs: random.whole(300, 4_000) }
    case 'restart-git':
      return { kind, awayMs: random.whole(0, 1_500) }
    case 'stale-key':
      return { kind, pick: random.next(), forMs: random.whole(500, 8_000) }
    case 'narrow-consumer':
      return providers.length < 2 ? null : { kind, pick: random.next(), provider: random.pick(providers), forMs: random.whole(2_000, 10_000) }
    case 'refuse-repository':
      return { kind, repository: random.pick(repositories), forMs: random.whole(1_000, 8_000) }
    case 'data-plane-outage':
      // Up to three minutes, and to a quarter of a run that is shorter than that.
      return { kind, provider: random.pick(servers), forMs: random.whole(10_000, Math.max(10_000, Math.min(180_000, Math.round(spanMs / 4)))) }
    case 'hostile-job':
      return { kind, pick: random.next() }
    case 'consumer-clock':
      return { kind, pick: random.next(), byMs: hours(random), forMs: random.whole(2_000, 15_000) }
    case 'redis-clock':
      return { kind, byMs: hours(random), forMs: random.whole(2_000, 15_000) }
    case 'slow-disk':
      return { kind, byMs: random.whole(50, 1_000), forMs: random.whole(1_000, 6_000) }
  }
}

/** One to six hours, forward or back, in milliseconds. */
function hours(random: Random): number {
  return random.pick([-1, 1]) * random.whole(3_600_000, 21_600_000)
}

function makeFault(random: Random, provider: string): FaultInput {
  const call = random.pick(calls[provider] ?? ['*'])
  const times = random.whole(1, 2)
  switch (random.weighted({ status: 35, 'lose-answer': 25, refuse: 15, delay: 10, hang: 5, 'cut-stream': 10 })) {
    case 'status':
      return { call, times, action: 'status', status: random.pick(statuses[provider] ?? [500]) }
    case 'lose-answer':
      return { call, times, action: 'lose-answer' }
    case 'refuse':
      return { call, times, action: 'refuse' }
    case 'delay':
      return { call, times, action: 'delay', delayMs: random.whole(100, 3_000) }
    case 'hang':
      return { call, times: 1, action: 'hang' }
    case 'cut-stream':
      return { call: { e2b: 'start', modal: 'read', daytona: 'execute' }[provider] ?? call, times: 1, action: 'cut-stream', afterBytes: random.whole(0, 200) }
  }
}
