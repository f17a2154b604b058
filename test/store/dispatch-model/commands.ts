import fc from '../../seeded-fast-check.js'
import { allows, limits, members, queues, tenants, thens } from './deployment.js'

/** What may happen in a walk, and how often. */

const which = fc.nat()
const member = fc.nat(members.length - 1)
const queue = fc.nat(queues.length - 1)
const seldom = fc.integer({ min: 0, max: 7 }).map((n) => n === 0)
const enqueue = {
  do: fc.constant('enqueue' as const),
  queue,
  tenant: fc.nat(tenants.length - 1),
  allow: fc.nat(allows.length - 1),
  cpu: fc.nat(3),
  priority: fc.integer({ min: 1, max: 3 }),
  count: fc.integer({ min: 1, max: 4 }),
  around: fc.boolean(),
  key: fc.integer({ min: -2, max: 1 }),
  then: fc.nat(thens.length - 1),
  delayed: seldom,
  /** It may wait for so long only. */
  bounded: seldom,
  limit: fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) }),
}

export const command = fc.oneof(
  { weight: 6, arbitrary: fc.record(enqueue) },
  // Those of a key, while others that have it are in hand.
  { weight: 5, arbitrary: fc.record({ ...enqueue, allow: fc.constant(0), count: fc.integer({ min: 1, max: 2 }), around: fc.constant(false), key: fc.nat(1) }) },
  // `dies`: it takes a job, and is gone before it has acquired it.
  { weight: 10, arbitrary: fc.record({ do: fc.constant('look' as const), member, idle: fc.boolean(), dies: seldom }) },
  // `takes`: the job that its place goes to, in the same step. `dies`: before BullMQ hears of the end.
  { weight: 7, arbitrary: fc.record({ do: fc.constant('end' as const), which, how: fc.constantFrom('succeeded' as const, 'failed' as const, 'failed' as const), takes: fc.boolean(), dies: seldom }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('get on' as const), which, to: fc.constantFrom('a step' as const, 'a checkpoint' as const, 'a checkpoint' as const, 'pushing' as const) }) },
  // `dies`: its consumer is gone; else it gives it back, and `says` so.
  { weight: 1, arbitrary: fc.record({ do: fc.constant('put back' as const), which, says: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('park' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), which, what: fc.constantFrom('waiting' as const, 'waiting' as const, 'delayed' as const, 'given' as const, 'taken' as const, 'ended' as const, 'parked' as const) }) },
  // By a producer, by one that dies after it has asked for the checkpoint, or by BullMQ's own means, with its attempts counted anew or not.
  { weight: 5, arbitrary: fc.record({ do: fc.constant('retry' as const), which, from: fc.constantFrom('start' as const, 'checkpoint' as const, 'checkpoint' as const), by: fc.constantFrom('producer' as const, 'producer' as const, 'producer' as const, 'one that dies' as const, 'bullmq' as const, 'bullmq anew' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('come due' as const), which, how: fc.constantFrom('by the clock' as const, 'promoted' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait too long' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete a branch' as const), which }) },
  { weight: 2, arbitrary: fc.record({ ...enqueue, do: fc.constant('add again' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('prioritise' as const), which, priority: fc.integer({ min: 0, max: 3 }), lifo: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reconcile' as const), queue }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pause' as const), queue, on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drain' as const), queue }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('operate a provider' as const), which: fc.nat(limits.length - 1), say: fc.constantFrom('drain', 'resume', 'limit', 'reset'), limit: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('operate a tenant' as const), which: fc.nat(tenants.length - 1), say: fc.constantFrom('pause', 'resume', 'share', 'reset'), weight: fc.integer({ min: 1, max: 4 }), cap: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hold for a budget' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('a budget has more' as const), which: fc.nat(tenants.length) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('be away' as const), member }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('set the clock' as const), hours: fc.integer({ min: -30, max: 30 }) }) },
)
export type Command = typeof command extends fc.Arbitrary<infer T> ? T : never
export type Do<What extends Command['do']> = Extract<Command, { readonly do: What }>
