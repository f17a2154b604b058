import { type JobSpecInput, parseJobSpec } from '../../src/job/spec.js'
import type { QueuedJob } from '../../src/store/index.js'
import type { Random } from '../chaos/random.js'
import { providerNames, secretName, tenants } from './deployment.js'

/** Jobs of a moment that between them use whatever decides when and where a job runs, and what becomes of it. */
export function madeSpec(random: Random, settings: { readonly budgets: boolean; readonly phases: boolean }): JobSpecInput {
  if (settings.phases && random.chance(0.5)) return racingSpec(random, settings)
  const { budgets } = settings
  const overdue = random.chance(0.1)
  const costly = budgets && random.chance(0.3)
  const pushed = costly || random.chance(0.4)
  return {
    repository: 'bench/jobs',
    push: pushed ? {} : false,
    steps: [overdue ? 'sleep 4' : `sleep ${(0.02 + random.next() * 0.4).toFixed(2)}`, ...(random.chance(0.3) ? ['sleep 0.05'] : [])],
    ...(overdue ? { timeout: '1s' } : costly ? { timeout: '5s' } : {}),
    ...(costly ? { budget: { amount: random.pick([0.0003, 0.001, 10]) } } : {}),
    ...(pushed && random.chance(0.2) ? { promote: { to: 'released' } } : {}),
    ...(random.chance(0.1) ? { events: ['enqueued', 'started', 'step.finished', 'parked', 'moved'] satisfies JobSpecInput['events'] } : {}),
    ...(random.chance(0.7) ? { tenant: random.pick(tenants) } : {}),
    ...(random.chance(0.5) ? { concurrency: { key: random.pick(['k0', 'k1']), limit: random.pick([1, 1, 1, 2]), then: random.pick(['wait', 'wait', 'cancel-running', 'cancel-waiting', 'drop'] as const) } } : {}),
    ...(random.chance(0.25) ? { priority: random.pick([1, 2, 100, 1_000_000]) } : {}),
    ...(random.chance(0.15) ? { delay: random.pick(['50ms', '300ms', '1s']) } : {}),
    ...(random.chance(0.1) ? { waitTimeout: '1500ms' } : {}),
    ...(random.chance(0.15) ? { providers: { allow: [random.pick(providerNames)] } } : {}),
    ...(random.chance(0.1) ? { attempts: 2 } : {}),
    ...(random.chance(0.1) ? { secrets: [secretName] } : {}),
  }
}

/** Which repositories are changed by one job at a time: each has a key with that limit. */
export const guarded = /^guarded\/k\d+$/

/** One that goes through all phases, and that others of its key get in the way of. */
export function racingSpec(random: Random, { budgets }: { readonly budgets: boolean }, key = random.pick(['k2', 'k3'])): JobSpecInput {
  const seconds = random.pick([0.05, 0.3, 1, 2.5])
  const fails = random.chance(0.15) ? '; exit 3' : ''
  return {
    repository: `guarded/${key}`,
    setup: ['true'],
    steps: [{ run: `sleep ${seconds}${fails}`, resume: `sleep ${seconds / 2}${fails}` }, 'sleep 0.05'],
    timeout: '12s',
    checkpoint: { everySeconds: 10, paths: ['~/.agent'] },
    concurrency: { key, limit: 1, then: random.pick(['wait', 'cancel-running', 'cancel-running', 'cancel-waiting', 'drop'] as const) },
    events: ['enqueued', 'started', 'moved', 'parked', 'promoted'],
    ...(random.chance(0.6) ? { promote: { to: 'released', ...(random.chance(0.3) ? { strategy: 'merge' as const } : {}) } } : {}),
    ...(random.chance(0.3) ? { attempts: 3 } : {}),
    ...(random.chance(0.4) ? { tenant: random.pick(tenants) } : {}),
    ...(budgets && random.chance(0.5) ? { budget: { amount: random.pick([0.001, 0.003, 10]) } } : {}),
    ...(random.chance(0.1) ? { delay: '300ms' } : {}),
    ...(random.chance(0.1) ? { waitTimeout: '1500ms' } : {}),
    ...(random.chance(0.15) ? { providers: { allow: [random.pick(providerNames)] } } : {}),
  }
}

/** The same as who adds it by hand, with BullMQ alone, gives it. */
export function madeData(random: Random, settings: { readonly budgets: boolean; readonly phases: boolean }): QueuedJob {
  return { spec: parseJobSpec(madeSpec(random, settings)) }
}
