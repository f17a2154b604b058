import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { subscribe } from '../../src/producers/index.js'
import type { RedisSettings } from '../../src/store/index.js'
import { startDeployment, until } from '../e2e/deployment.js'
import { startRedisCluster } from '../servers/redis-cluster.js'
import { ProbeWatch } from './probe-watch.js'

// A rolling deploy under load, for real: three consumers in processes of their own are replaced one after the other, three times over, while jobs run at
// the local provider; with --cluster on a Redis Cluster of three primaries with a replica each, of which one fails over in the middle. Then every job
// is looked at: it ended once, as it should, in one attempt, its step ran once, and nothing is left; and each consumer's probes said all along what was so.
const { values } = parseArgs({
  options: {
    cluster: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '200' },
    places: { type: 'string', default: '8' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  process.stdout.write('npm run rolling-deploy -- [--cluster] [--jobs 200] [--places 8]\n')
  process.exit(0)
}
const count = Number(values.jobs)
const places = Number(values.places)
if (!(count >= 1) || !(places >= 1)) throw new Error('--jobs and --places are numbers of at least 1')

const startedMs = performance.now()
const say = (text: string) => process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${text}\n`)
const cluster = values.cluster ? await startRedisCluster() : undefined
const settings: RedisSettings | undefined = cluster === undefined ? undefined : { cluster: { nodes: cluster.addresses }, password: cluster.password }
const deployment = await startDeployment({ limits: [places], ...(settings === undefined ? {} : { address: () => Promise.resolve(settings) }) })
const problems: string[] = []
const probes = new ProbeWatch()
const startConsumer = async () =>
  await deployment.startConsumerProcess({
    settings: { leaseMs: 15_000, stallCheckMs: 5_000 },
    probes: true,
    onMessage: (message, child) => {
      if (typeof message === 'object' && message !== null && 'probes' in message) probes.watch(String(message.probes), child)
    },
  })
try {
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const consumers = await Promise.all([1, 2, 3].map(startConsumer))
  const ended: string[] = []
  const subscription = subscribe(settings ?? { url: deployment.redis.url }, 'rolling-deploy', (event) => void ended.push(event.subject), { from: 'start' })
  const step = 'i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done; echo x >> runs.txt; cat runs.txt'
  const jobs = await deployment.queue.enqueueMany(Array.from({ length: count }, (_, n) => ({ repository: 'acme/web', steps: [step], idempotencyKey: `job ${n}` })))
  say(`${count} jobs enqueued; three consumers, ${places} places, ${cluster === undefined ? 'one Redis' : 'a Redis Cluster of three primaries and three replicas'}`)
  const results = Promise.all(jobs.map((job) => job.result({ timeoutMs: 3_600_000 })))
  let replaced = 0
  for (; replaced < 9; replaced++) {
    // Spread over the whole of the work, so that each meets jobs in every phase.
    await until('more jobs end', () => ended.length >= ((replaced + 0.5) * count) / 10, 1_800_000)
    if (cluster !== undefined && replaced === 4) {
      const slot = await cluster.slotOf('{switchyard}')
      const replica = await cluster.replicaOf(slot)
      probes.away = true
      await replica.client.cluster('FAILOVER')
      await until('the replica takes over', async () => (await cluster.primaryOf(slot)) === replica)
      // Whoever is asked while it finds the new one may say so a little longer.
      setTimeout(() => (probes.away = false), 15_000)
      say('the replica of the queue’s primary took over')
    }
    const old = consumers[replaced % 3]
    const gone = old === undefined ? undefined : once(old, 'exit')
    probes.stopping(old?.pid)
    old?.kill('SIGTERM')
    await gone
    consumers[replaced % 3] = await startConsumer()
    if (replaced % 3 === 2) say(`all three consumers were replaced; ${ended.length} of ${count} jobs have ended`)
  }
  const all = await results
  await until('every event', () => all.every(({ jobId }) => ended.includes(jobId)), 120_000).catch((error: unknown) => problems.push(String(error)))
  for (const { jobId, status, attempts, steps, error } of all) {
    const ran = steps[0]?.stdoutTail.split('\n').filter((line) => line === 'x').length ?? 0
    if (status !== 'succeeded' || attempts.length !== 1 || ran !== 1) problems.push(`job ${jobId}: ${status}, ${attempts.length} attempts, its step ran ${ran} times${error === null ? '' : `: ${error.message}`}`)
  }
  const told = ended.length
  if (told !== new Set(ended).size) problems.push(`${told - new Set(ended).size} events were told twice`)
  await until('every place is given back', async () => (await deployment.queue.providers()).every(({ used }) => used === 0), 60_000).catch((error: unknown) => problems.push(String(error)))
  await subscription.close()
  for (const consumer of consumers) {
    probes.stopping(consumer.pid)
    consumer.kill('SIGTERM')
  }
  const asked = await probes.close()
  problems.push(...probes.problems)
  say(`the probes of ${replaced + 3} consumers answered ${asked} times${probes.problems.length === 0 ? ', and said what was so' : ''}`)
  say(`${all.length} jobs ended, ${all.filter(({ status }) => status === 'succeeded').length} succeeded, ${told} events; consumers were replaced ${replaced} times; ${problems.length === 0 ? 'nothing was lost, and nothing ran twice' : `${problems.length} problems`}`)
} finally {
  await deployment.close()
  await cluster?.close()
}
for (const problem of problems) process.stdout.write(`${problem}\n`)
process.exitCode = problems.length === 0 ? 0 : 1
