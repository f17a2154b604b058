import { Queue } from 'bullmq'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { Provider } from '../../src/providers/provider.js'
import { monitorRedis } from '../servers/redis-monitor.js'
import { spanning } from '../whole.js'
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

it.each(spanning<[string, (deployment: Deployment) => Parameters<Deployment['startConsumer']>[0], Partial<JobSpecInput>, RegExp]>([
  ['a paused queue', () => ({}), {}, /paused/],
  ['a secret that nobody has', () => ({}), { secrets: ['NOT_THERE'] }, /NOT_THERE/],
  ['a git key that is refused', ({ host }) => ({ git: altered(host, { check: refused, resolve: refused }) }), {}, /key is taken/],
  ['a provider that is down', ({ providers }) => ({ providers: [{ provider: altered<Provider>(providers[0]!, { create: down }), limit: { sandboxes: 1 } }] }), {}, /waiting for capacity/],
], 'a paused queue', 'a provider that is down'))('while all jobs wait for %s, a consumer asks Redis a few times a second and no more', async (what, options, job, reason) => {
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

const refusals: [string, InfrastructureErrorKind][] = [
  ['is down', 'provider-down'],
  ['has no room', 'capacity'],
]
it.each(spanning(refusals, 'has no room'))('while sixty jobs that have lost their sandboxes wait for a provider that %s, their consumer asks Redis no more often than one job would', async (_what, kind) => {
  const local = new InMemoryProvider('local-a')
  const settings = { leaseMs: 15_000, stallCheckMs: 5_000, maxJobs: 100 }
  await deployment.startConsumer({ settings, git: inMemoryGitHost, providers: [{ provider: local, limit: { sandboxes: 60 } }] })
  const jobs = await deployment.queue.enqueueMany(Array.from({ length: 60 }, () => ({ repository: 'acme/web', steps: ['sleep 3000'], push: false as const })))
  await until('all to run', () => local.running === 60)
  local.refusesCreates = kind
  local.die('sandbox-lost')
  // Each has been refused, or waits behind those that were.
  for (const job of jobs) await until('it to wait', async () => /^waiting for capacity/.test((await job.status()).reason ?? ''), 60_000)
  // The first seconds hold what they say once.
  const from = 5_000
  const rounds = 2 * settings.stallCheckMs
  const all = [...(await watch((seen) => spanOf(seen) > from + rounds)).values()].flat().sort((a, b) => a - b)
  const executed = all.filter((at) => at > all[0]! + from && at <= all[0]! + from + rounds)
  // They look for a place together; now and then one tries whether there is room again, and the reaper gives back what they had.
  expect(executed.length / (rounds / 1_000)).toBeLessThan(60)
  local.refusesCreates = undefined
  await until('more than one to run again', () => local.running > 1, 120_000)
})
