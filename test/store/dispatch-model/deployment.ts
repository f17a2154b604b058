import type { ProviderLimit } from '../../../src/store/index.js'

/** What the walks' deployment is made of: its providers, the kinds of its consumers, its queues and tenants. */

export const limits: readonly ProviderLimit[] = [
  { provider: 'a', sandboxes: 2 },
  { provider: 'b', sandboxes: 3, cpu: 4 },
  { provider: 'c', sandboxes: 1 },
  { provider: 'd', sandboxes: 2 },
]

export const members = [
  { queue: 'q1', name: 'm1', providers: ['a', 'b', 'c'] },
  { queue: 'q1', name: 'm2', providers: ['a', 'b', 'c'] },
  { queue: 'claim', name: 'm3', providers: ['b', 'c'] },
  { queue: 'claim', name: 'm4', providers: ['c', 'd'] },
] as const
export type Member = (typeof members)[number]
/** Consumers that answer alike share a view, and a profile. */
export const viewOf = ({ providers }: Member): string => providers.join()

export const queues = ['q1', 'claim'] as const

/** A tenant may be called anything that is one line, also as the index itself puts things apart. */
export const tenants = ['a b', "x:y:1 %d '*", '*', 'é : 1 2'] as const
export const caps: Readonly<Record<string, number>> = { [tenants[1]]: 2 }
export const shares = { [tenants[0]]: { weight: 2 }, [tenants[1]]: { weight: 1, cap: 2 } }

export const allows: readonly (readonly string[] | undefined)[] = [undefined, ['a'], ['b'], ['c'], ['b', 'd'], ['a', 'c'], ['d']]

/** Of the jobs that share a key so many at most run at once, where they don't say another limit; each says what is to become of the others when it comes. */
export const keyLimits: Readonly<Record<string, number>> = { 'one at a time': 1, 'two: \u0000 ! ': 2 }
export const thens = ['wait', 'wait', 'wait', 'cancel-running', 'cancel-running', 'cancel-waiting', 'drop'] as const
