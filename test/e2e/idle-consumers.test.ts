import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeEach(async () => {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.close())

it('consumers that wait for room ask Redis for nothing more than once a second', async () => {
  // Longer than the test, so that no look for jobs of dead consumers is among what is counted.
  const settings = { leaseMs: 60_000, stallCheckMs: 60_000 }
  await Promise.all([deployment.startConsumer({ settings }), deployment.startConsumer({ settings })])
  const holder = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false })
  await until('the only place to be taken', async () => (await holder.status()).phase === 'steps')
  const waiting = await deployment.queue.enqueueMany(Array.from({ length: 5 }, (_, index) => ({ repository: 'acme/web', steps: ['true'], push: false as const, metadata: { index } })))
  for (const job of waiting) await until('a job to wait', async () => (await job.status()).reason === 'waiting for capacity: local-a full (1/1)')

  // By connection and command, a script by its digest: when Redis executed it, by its own clock, in milliseconds.
  const executed = new Map<string, number[]>()
  const watcher = new Redis(deployment.redis.url)
  const monitor = await watcher.monitor()
  try {
    monitor.on('monitor', (seconds: string, [command = '', subject = '']: readonly string[], source: string) => {
      if (source === 'lua') return
      const times = executed.get(`${source} ${command} ${subject}`) ?? []
      executed.set(`${source} ${command} ${subject}`, [...times, Number(seconds) * 1_000])
    })
    // Each consumer's look for a place, and its read of its inbox.
    await until('all of them to have looked some times', () => [...executed.values()].filter((times) => times.length >= 5).length >= 4)
  } finally {
    monitor.disconnect()
    watcher.disconnect()
  }
  // A second passes after each answer, so that a busy machine makes the gaps longer and never shorter; timers may be a millisecond early.
  for (const [what, times] of executed) for (const [index, at] of times.entries()) if (index > 0) expect(at - times[index - 1]!, what).toBeGreaterThan(990)

  await holder.cancel('make room')
  for (const job of waiting) expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
})

it('no configuration makes them ask more often', async () => {
  await expect(deployment.startConsumer({ settings: { pollMs: 999 } })).rejects.toThrow('pollMs')
})
