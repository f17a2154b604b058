// How long a job is without a supervisor: from the signal to the next consumer's first write, with one consumer idle. SIGTERM hands
// over at once; after SIGKILL the lease has to run out and the next look has to find the job, so that is given as a share of the two.
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Keys } from '../src/store/index.js'
import { startDeployment, until } from '../test/e2e/deployment.js'
import { report } from './report.js'

const jobs = 10
const rounds = { SIGTERM: Number(process.env['ROUNDS'] ?? 10), SIGKILL: 3 }
const settings = { leaseMs: 3_000, stallCheckMs: 1_000 }
const keys = new Keys()

const deployment = await startDeployment({ limits: [jobs] })
const redis = new Redis(deployment.redis.url)
try {
  await deployment.seed('bench/hand-over', { 'README.md': 'x\n' })
  let holder = await deployment.startConsumerProcess({ settings })
  const handles = await deployment.queue.enqueueMany(Array.from({ length: jobs }, () => ({ repository: 'bench/hand-over', push: false as const, steps: ['echo up; sleep 3600'], timeout: '2h' })))
  await until('all jobs in their step', async () => (await Promise.all(handles.map((handle) => handle.status()))).every(({ phase, step }) => phase === 'steps' && step !== null), 120_000)

  const fences = async () => {
    const pipeline = redis.pipeline()
    for (const { jobId } of handles) pipeline.hget(keys.run(jobId), 'fence')
    return ((await pipeline.exec()) ?? []).map(([, fence]) => String(fence))
  }
  const measure = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<number[]> => {
    const idle = await deployment.startConsumerProcess({ settings })
    const before = await fences()
    const took = before.map(() => Number.NaN)
    const exited = once(holder, 'exit')
    const startMs = performance.now()
    holder.kill(signal)
    while (took.some(Number.isNaN)) {
      const now = await fences()
      now.forEach((fence, index) => {
        if (fence !== before[index] && Number.isNaN(took[index])) took[index] = performance.now() - startMs
      })
      await delay(2)
    }
    await exited
    holder = idle
    return took
  }

  const stopped: number[] = []
  for (let round = 0; round < rounds.SIGTERM; round++) stopped.push(...(await measure('SIGTERM')))
  const killed: number[] = []
  for (let round = 0; round < rounds.SIGKILL; round++) killed.push(...(await measure('SIGKILL')))
  const windowMs = settings.leaseMs + settings.stallCheckMs
  const quantile = (values: readonly number[], share: number) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN
  const attempts = await Promise.all(handles.map(async (handle) => (await handle.status()).attempts))
  await report('hand-over', {
    handOvers: stopped.length,
    sigtermP50Ms: Math.round(quantile(stopped, 0.5)),
    sigtermP99Ms: Math.round(quantile(stopped, 0.99)),
    kills: killed.length,
    leaseMs: settings.leaseMs,
    stallCheckMs: settings.stallCheckMs,
    sigkillP50Share: Number((quantile(killed, 0.5) / windowMs).toFixed(2)),
    sigkillLongestShare: Number((Math.max(...killed) / windowMs).toFixed(2)),
    jobsRestarted: attempts.filter((count) => count !== 1).length,
  })
} finally {
  redis.disconnect()
  await deployment.close()
}
