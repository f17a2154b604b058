import { expect, it } from 'vitest'
import { SwitchyardError } from '../../src/job/errors.js'
import { AgentQueue, type JobHandle } from '../../src/producers/index.js'
import { after, useRedis } from '../store/fixture.js'

const redis = useRedis()

/** What callers without types, and forms of web pages, may give in any place. */
const odd: readonly unknown[] = [
  undefined, null, Number.NaN, Infinity, -1, 0, 1.5, 1e300, true, '', 'x', 'x'.repeat(100_000), '\0', '\ud800', {}, [], ['x'], [null], () => 1, new Date(Number.NaN),
  '1-1', '99999999999999999999-0', '18446744073709551615-18446744073709551615', '-', '+', '$', '*', '__proto__', '2026-02-30', { repository: 'acme/web', steps: ['true'] },
]
const by = { id: 'operator', name: 'me' }
type Anything = (...given: readonly unknown[]) => Promise<unknown>

it('whatever is given in the place of an argument is told in a sentence of ours: no word of Redis’, of the language or of the library', { timeout: 120_000 }, async () => {
  const queue = new AgentQueue({ redis: redis.config })
  after(() => queue.close())
  const known = await queue.enqueue({ repository: 'acme/web', steps: ['true'], delay: '1h' })
  // A group of readers, so that what is asked of one comes as far as Redis.
  await redis.client.xgroup('CREATE', redis.keys.events(), 'readers', '$', 'MKSTREAM')
  // As a caller without types has them.
  const untyped = <Target extends object>(target: Target, name: keyof Target & string): Anything => {
    const method: unknown = target[name]
    if (typeof method !== 'function') throw new Error(`${name} is no method`)
    return async (...given) => (await method.apply(target, given)) as unknown
  }
  const handleOf = (jobId: unknown) => (queue as { job(id: unknown): unknown }).job(jobId) as JobHandle
  const logs = async (jobId: unknown, ...given: readonly unknown[]) => {
    const handle = handleOf(jobId) as { logs(...options: readonly unknown[]): AsyncIterable<unknown> }
    for await (const line of handle.logs(...given)) return line
    return null
  }
  const { events, operations, budgets, schedules } = queue
  const job = queue.job(known.jobId)
  const list = ['state', 'tenant', 'repository', 'since', 'error', 'limit', 'cursor', 'reasons']
  const calls: Record<string, (value: unknown) => Promise<unknown>> = {
    enqueue: untyped(queue, 'enqueue'),
    'enqueue options': (value) => untyped(queue, 'enqueue')({ repository: 'acme/web', steps: ['true'] }, value),
    enqueueMany: untyped(queue, 'enqueueMany'),
    'enqueueMany of': (value) => untyped(queue, 'enqueueMany')([value]),
    status: async (value) => await untyped(handleOf(value), 'status')(),
    'result of': async (value) => await untyped(handleOf(value), 'result')({ timeoutMs: 1 }),
    'result timeoutMs': async (value) => (value === undefined || value === Infinity || value === 1e300 ? null : await untyped(job, 'result')({ timeoutMs: value })),
    'result signal': (value) => untyped(job, 'result')({ timeoutMs: 1, signal: value }),
    logs: (value) => logs(value),
    'logs options': (value) => logs(known.jobId, value),
    'logs after': (value) => logs(known.jobId, { after: value }),
    'logs signal': (value) => logs(known.jobId, { signal: value }),
    list: untyped(queue, 'list'),
    ...Object.fromEntries(list.map((field) => [`list ${field}`, (value: unknown) => untyped(queue, 'list')({ [field]: value })])),
    statuses: untyped(queue, 'statuses'),
    'statuses of': (value) => untyped(queue, 'statuses')([value]),
    retry: untyped(queue, 'retry'),
    'retry options': (value) => untyped(queue, 'retry')(known.jobId, value),
    retryMany: untyped(queue, 'retryMany'),
    'retryMany options': (value) => untyped(queue, 'retryMany')({}, value),
    costs: untyped(queue, 'costs'),
    'costs since': (value) => untyped(queue, 'costs')({ since: value }),
    'costs tenant': (value) => untyped(queue, 'costs')({ tenant: value }),
    view: untyped(queue, 'view'),
    'events.read': untyped(events, 'read'),
    ...Object.fromEntries(['from', 'limit', 'types'].map((field) => [`events.read ${field}`, (value: unknown) => untyped(events, 'read')({ [field]: value })])),
    'events.read after': (value) => untyped(events, 'read')({ from: { after: value } }),
    'events.read sinceMs': (value) => untyped(events, 'read')({ from: { sinceMs: value } }),
    ...Object.fromEntries((['dead', 'redeliver', 'replay', 'resume'] as const).map((name) => [`events.${name}`, untyped(events, name)])),
    ...Object.fromEntries((['dead', 'redeliver', 'replay', 'resume'] as const).map((name) => [`events.${name} group`, (value: unknown) => untyped(events, name)({ group: value, ids: 'all', from: { sinceMs: 0 } })])),
    'events.dead after': (value) => untyped(events, 'dead')({ group: 'readers', after: value }),
    'events.dead limit': (value) => untyped(events, 'dead')({ group: 'readers', limit: value }),
    'events.redeliver ids': (value) => untyped(events, 'redeliver')({ group: 'readers', ids: value }),
    'events.redeliver id': (value) => untyped(events, 'redeliver')({ group: 'readers', ids: [value] }),
    'events.replay from': (value) => untyped(events, 'replay')({ group: 'readers', from: value }),
    'events.replay after': (value) => untyped(events, 'replay')({ group: 'readers', from: { after: value } }),
    'events.replay sinceMs': (value) => untyped(events, 'replay')({ group: 'readers', from: { sinceMs: value } }),
    auditLog: untyped(operations, 'auditLog'),
    'auditLog before': (value) => untyped(operations, 'auditLog')({ before: value }),
    'auditLog limit': (value) => untyped(operations, 'auditLog')({ limit: value }),
    ...Object.fromEntries(
      (['drainProvider', 'resumeProvider', 'limitProvider', 'pauseTenant', 'resumeTenant', 'shareTenant', 'drainConsumer', 'retryJobs', 'cancelJobs', 'audit'] as const).flatMap((name) => [
        [`${name} 1`, (value: unknown) => untyped(operations, name)(value, { by, dryRun: true })],
        [`${name} 2`, (value: unknown) => untyped(operations, name)('local', value)],
        [`${name} 3`, (value: unknown) => untyped(operations, name)('local', null, value)],
        [`${name} state`, (value: unknown) => untyped(operations, name)({ state: value }, { by, dryRun: true })],
        [`${name} by`, (value: unknown) => untyped(operations, name)('local', { by: value })],
      ]),
    ),
    ...Object.fromEntries((['pauseQueue', 'resumeQueue', 'drainQueue'] as const).map((name) => [name, untyped(operations, name)])),
    ...Object.fromEntries(
      (['setTenant', 'setJob'] as const).flatMap((name) => [
        [`${name} 1`, (value: unknown) => untyped(budgets, name)(value, 1)],
        [`${name} 2`, (value: unknown) => untyped(budgets, name)(known.jobId, value)],
        [`${name} by`, (value: unknown) => untyped(budgets, name)(known.jobId, 1, value)],
      ]),
    ),
    ...Object.fromEntries(
      (['upsert', 'get', 'pause', 'resume', 'remove'] as const).flatMap((name) => [
        [`${name} 1`, (value: unknown) => untyped(schedules, name)(value, { every: '1h', job: { repository: 'acme/web', steps: ['true'] } })],
        [`${name} 2`, (value: unknown) => untyped(schedules, name)('nightly', value)],
        [`${name} 3`, (value: unknown) => untyped(schedules, name)('nightly', { every: '1h', job: { repository: 'acme/web', steps: ['true'] } }, value)],
      ]),
    ),
  }
  const wrong: string[] = []
  for (const [name, call] of Object.entries(calls)) {
    for (const value of odd) {
      try {
        await call(value)
      } catch (error) {
        const [of, shown] = [`${name}(${typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value)})`, error instanceof Error ? `${error.name}: ${error.message}` : String(error)]
        if (!(error instanceof SwitchyardError) || error.code === 'SWY_UNSPECIFIED') wrong.push(`${of}: ${shown.slice(0, 200)}`)
        else if (error.message.length > 2_000) wrong.push(`${of}: a sentence of ${error.message.length} characters`)
      }
    }
  }
  expect(wrong).toEqual([])
})
