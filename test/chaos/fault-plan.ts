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
}
export const faultKinds = Object.keys(weights) as FaultKind[]
/** Those of a run that names none; the others, of consumers that differ, are asked for: they change what a seed means. */
export const usualKinds: readonly FaultKind[] = faultKinds.filter((kind) => kind !== 'stale-key' && kind !== 'narrow-consumer')

/** The calls of each provider's server that are worth striking. `create` and the kill must bear losing their answers. */
const calls: Readonly<Record<string, readonly string[]>> = {
  e2b: ['create', 'kill', 'get', 'list', 'start', 'connect'],
  modal: ['create', 'kill', 'get', 'list', 'exec', 'read', 'wait'],
  daytona: ['create', 'delete', 'get', 'list', 'execute'],
}
/** HTTP statuses, and gRPC's for Modal: UNAVAILABLE, INTERNAL, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED. */
const statuses: Readonly<Record<string, readonly number[]>> = { e2b: [429, 500, 502, 503], modal: [14, 13, 8, 4], daytona: [429, 500, 502, 503] }

/**
 * Faults in volleys with quiet between them, so that what must hold only in peace can be checked as well.
 * @param options.spanMs the last fault is over by then.
 */
export function planFaults(random: Random, options: { spanMs: number; kinds: readonly FaultKind[]; servers: readonly string[]; providers: readonly string[] }): PlannedFault[] {
  const { spanMs, kinds, servers, providers } = options
  const chosen = Object.fromEntries(Object.entries(weights).filter(([kind]) => kinds.includes(kind as FaultKind))) as Record<FaultKind, number>
  const plan: PlannedFault[] = []
  if (kinds.length === 0) return plan
  let atMs = random.whole(1_500, 4_000)
  while (atMs < spanMs) {
    for (let left = random.whole(2, 6); left > 0 && atMs < spanMs; left--) {
      const kind = random.weighted(chosen)
      // A fault of a provider's server when there is none would change what the seed means from here on: it is left out.
      const action = makeAction(random, kind, servers, providers)
      if (action !== null) plan.push({ ...action, atMs })
      atMs += random.whole(100, 3_000)
    }
    atMs += random.whole(4_000, 14_000)
  }
  return plan
}

function makeAction(random: Random, kind: FaultKind, servers: readonly string[], providers: readonly string[]): FaultAction | null {
  const needsServer = kind === 'provider-down' || kind === 'provider-faults'
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
    case 'slow-disk':
      return { kind, byMs: random.whole(50, 1_000), forMs: random.whole(1_000, 6_000) }
  }
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
