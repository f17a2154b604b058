import { Queue } from 'bullmq'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { Provider } from '../../src/providers/provider.js'
import { monitorRedis } from '../servers/redis-monitor.js'
import { altered, startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeEach(async () => {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.close())

/** By connection and command, a script by its digest: when Redis executed it, by its own clock, in milliseconds; until that is enough. */
async function watch(enough: (seen: ReadonlyMap<string, readonly number[]>) => boolean): Promise<Map<string, number[]>> {
  const executed = new Map<string, number[]>()
  const monitor = await monitorRedis(deployment.redis.url, (atMs, source, [command = '', subject = '']) => {
    if (source === 'lua') return
    const times = executed.get(`${source} ${command} ${subject}`) ?? []
    executed.set(`${source} ${command} ${subject}`, [...times, atMs])
  })
  try {
    await until('enough to have been seen', () => enough(executed))
  } finally {
    monitor.close()
  }
  return executed
}

/** From the first to the last, in milliseconds. */
function spanOf(seen: ReadonlyMap<string, readonly number[]>): number {
  const times = [...seen.values()].flat()
  return Math.max(...times) - Math.min(...times)
}

it('consumers that wait for room ask Redis for nothing more than once a second', async () => {
  // Longer than the test, so that no look for jobs of dead consumers is among what is counted.
  const settings = { leaseMs: 60_000, stallCheckMs: 60_000 }
  await Promise.all([deployment.startConsumer({ settings }), deployment.startConsumer({ settings })])
  const holder = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false })
  await until('the only place to be taken', async () => (await holder.status()).phase === 'steps')
  const waiting = await deployment.queue.enqueueMany(Array.from({ length: 5 }, (_, index) => ({ repository: 'acme/web', steps: ['true'], push: false as const, metadata: { index } })))
  for (const job of waiting) await until('a job to wait', async () => (await job.status()).reason === 'waiting for capacity: local-a full (1/1)')

  // Each consumer's look for a place, and its read of its inbox.
  const executed = await watch((seen) => [...seen.values()].filter((times) => times.length >= 5).length >= 4)
  // A second passes after each answer, so that a busy machine makes the gaps longer and never shorter; timers may be a millisecond early.
  for (const [what, times] of executed) for (const [index, at] of times.entries()) if (index > 0) expect(at - times[index - 1]!, what).toBeGreaterThan(990)

  await holder.cancel('make room')
  for (const job of waiting) expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
})

it('no configuration makes them ask more often', async () => {
  await expect(deployment.startConsumer({ settings: { pollMs: 999 } })).rejects.toThrow('pollMs')
})

const refused = () => Promise.reject(new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source: 'git', message: 'git: the key is refused' }))
const down = () => Promise.reject(new InfrastructureError({ kind: 'provider-down', source: 'local-a', message: 'local-a: is down' }))

it.each<[string, (deployment: Deployment) => Parameters<Deployment['startConsumer']>[0], Partial<JobSpecInput>, RegExp]>([
  ['a paused queue', () => ({}), {}, /paused/],
  ['a secret that nobody has', () => ({}), { secrets: ['NOT_THERE'] }, /NOT_THERE/],
  ['a git key that is refused', ({ host }) => ({ git: altered(host, { check: refused, resolve: refused }) }), {}, /key is taken/],
  ['a provider that is down', ({ providers }) => ({ providers: [{ provider: altered<Provider>(providers[0]!, { create: down }), limit: { sandboxes: 1 } }] }), {}, /waiting for capacity/],
])('while all jobs wait for %s, a consumer asks Redis a few times a second and no more', async (what, options, job, reason) => {
  const settings = { leaseMs: 15_000, stallCheckMs: 5_000, unrunnableGraceMs: 600_000 }
  const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
  if (what === 'a paused queue') await bull.pause()
  await Promise.all([1, 2].map(() => deployment.startConsumer({ ...options(deployment), settings })))
  const waiting = await deployment.queue.enqueueMany(Array.from({ length: 30 }, () => ({ repository: 'acme/web', steps: ['true'], push: false as const, ...job })))
  await until('a job to wait', async () => reason.test((await waiting[0]!.status()).reason ?? ''))
  await deployment.queue.close()
  await bull.close()
  // The first seconds hold what consumers say and ask once; then two whole rounds of what they do every five seconds, which comes at once.
  const from = 2_000
  const rounds = 2 * settings.stallCheckMs
  const all = [...(await watch((seen) => spanOf(seen) > from + rounds)).values()].flat().sort((a, b) => a - b)
  const executed = all.filter((at) => at > all[0]! + from && at <= all[0]! + from + rounds)
  // By Redis' own clock; a busy machine makes them fewer and never more. A job in hand looks for room besides its consumer.
  expect(executed.length / (rounds / 1_000) / 2).toBeLessThan(what === 'a provider that is down' ? 10 : 5)
})
