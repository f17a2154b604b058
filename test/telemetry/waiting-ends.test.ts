import { pino } from 'pino'
import { expect, it } from 'vitest'
import { endForgottenRun } from '../../src/consumers/ending/forgotten-run.js'
import { endOverdueWaits } from '../../src/consumers/supervision/overdue-waits.js'
import { AgentQueue } from '../../src/producers/index.js'
import { RunStore, SlotOwners, WaitDeadlines } from '../../src/store/index.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { after, record, until, useRedis } from '../store/fixture.js'

const redis = useRedis()

/** What a process says of the jobs that it has ended. */
async function endsOf(metrics: PrometheusMetrics): Promise<Record<string, number>> {
  const { text } = await metrics.scrape()
  return Object.fromEntries([...text.matchAll(/^switchyard_job_ends_total\{tenant="([^"]*)",status="([^"]*)"\} (\d+)$/gm)].map(([, tenant, status, count]) => [`${tenant} ${status}`, Number(count)]))
}

it('a job that ends while it waits is counted once, by the process that ended it, however it did', async () => {
  const [mine, others] = [new PrometheusMetrics(), new PrometheusMetrics()]
  const [queue, other] = [mine, others].map((metrics) => new AgentQueue({ redis: redis.config, metrics })) as [AgentQueue, AgentQueue]
  after(async () => {
    await Promise.all([queue.close(), other.close()])
  })
  // There from the start, so that the first one is an increase.
  expect([await endsOf(mine), await endsOf(others)]).toEqual([{ ' cancelled': 0 }, { ' cancelled': 0 }])
  const spec = { repository: 'acme/web', steps: ['true'] }

  const cancelled = await queue.enqueue({ ...spec, tenant: 'cancels' })
  const raced = await queue.enqueue({ ...spec, tenant: 'races' })
  await cancelled.cancel('not needed')
  await cancelled.cancel('said again')
  await Promise.all([raced.cancel('here'), other.job(raced.jobId).cancel('there')])
  const concurrency = { key: 'k', then: 'cancel-waiting' } as const
  await queue.enqueue({ ...spec, tenant: 'superseded', concurrency })
  await queue.enqueue({ ...spec, tenant: 'drained', concurrency })
  await queue.operations.drainQueue({ by: { id: 'operator', name: 'anna' }, reason: 'all of them' })
  const { 'races cancelled': here = 0, ...ends } = await endsOf(mine)
  const { 'races cancelled': there = 0, ...rest } = await endsOf(others)
  expect([here + there, ends, rest]).toEqual([1, { ' cancelled': 0, 'cancels cancelled': 1, 'superseded cancelled': 1, 'drained cancelled': 1 }, { ' cancelled': 0 }])
})

it('so is one that waited for too long, and one that was removed from the queue, by the consumer that finds so', async () => {
  const [client, metrics] = [redis.connect(), new PrometheusMetrics()]
  const [store, deadlines] = [new RunStore(client, redis.keys), new WaitDeadlines(client, redis.keys)]
  const context = { store, owners: new SlotOwners(client, redis.keys), metrics, deployment: 'test', now: Date.now, log: pino({ level: 'silent' }), branchRetentionMs: 1 }
  const queue = new AgentQueue({ redis: redis.config })
  after(() => queue.close())
  await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'late', waitTimeout: '1s' })
  // Whoever takes jobs is left some seconds to end it first.
  await until(async () => (await endOverdueWaits({ context, deadlines, whyIdle: () => Promise.resolve(null) })) > 0, 'its time is over')
  expect(await endOverdueWaits({ context, deadlines, whyIdle: () => Promise.resolve(null) })).toBe(0)
  await store.acquire('gone', { holder: 'a', fresh: record('gone', { tenant: 'removes' }) })
  expect([await endForgottenRun(context, 'gone'), await endForgottenRun(context, 'gone')]).toEqual([true, false])
  expect(await endsOf(metrics)).toEqual({ 'late failed': 1, 'removes cancelled': 1 })
})
