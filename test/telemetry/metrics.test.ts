import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { documentWithMetrics } from '../../script/write-metrics-table.js'
import { metricTable, prometheusName, type MetricEntry, type MetricName } from '../../src/telemetry/metric-table.js'
import { measureRedis } from '../../src/telemetry/measure-redis.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { deploymentFigures, queueReason, wantedJobs } from '../../src/monitor/deployment-figures.js'
import { AgentQueue } from '../../src/producers/index.js'
import { EventGroup, type ProviderLoad } from '../../src/store/index.js'
import { after, useRedis } from '../store/fixture.js'

const redis = useRedis()
const promtool = '/usr/bin/promtool'
const entries = Object.entries<MetricEntry>(metricTable)

function valueOf(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

it('has every metric in the document; otherwise run npx tsx script/write-metrics-table.ts', () => {
  const text = readFileSync('docs/metrics.md', 'utf8')
  expect(documentWithMetrics(text)).toBe(text)
})

it('names metrics as the field does, and labels none by what has no bound', () => {
  expect(prometheusName('cicd.pipeline.run.duration', metricTable['cicd.pipeline.run.duration'])).toBe('cicd_pipeline_run_duration_seconds')
  expect(prometheusName('switchyard.job.work.lost', metricTable['switchyard.job.work.lost'])).toBe('switchyard_job_work_lost_seconds_total')
  expect(new Set(entries.map(([name, entry]) => prometheusName(name, entry))).size).toBe(entries.length)
  for (const [name, { labels, help, type, buckets }] of entries) {
    expect(labels.filter((label) => /(^|[._])(id|job|sandbox|consumer|run\.id|branch|repository|url)$/.test(label)), name).toEqual([])
    expect(help, name).toMatch(/\.$/)
    expect(buckets !== undefined, name).toBe(type === 'histogram')
  }
})

it.skipIf(!existsSync(promtool))('exports what Prometheus’ own linter has nothing to say about', async () => {
  const metrics = new PrometheusMetrics()
  metrics.add('switchyard.job.starts', ['a "quoted"\\ tenant\nof two lines'])
  metrics.observe('cicd.pipeline.run.duration', ['agents', 'pending', ''], 1)
  const { text } = await metrics.scrape()
  const own = text.split('\n\n').filter((family) => /^# HELP (switchyard|cicd)_/.test(family)).join('\n\n')
  const checked = spawnSync(promtool, ['check', 'metrics'], { input: `${own}\n`, encoding: 'utf8' })
  expect([checked.status, checked.stderr]).toEqual([0, ''])
})

it('keeps what a tenant did before it had a label under other, which never goes down', async () => {
  const metrics = new PrometheusMetrics()
  const ends = async (label: string) => valueOf((await metrics.scrape()).text, `switchyard_job_ends_total{tenant="${label}",status="succeeded"}`)
  for (let each = 0; each < 200; each++) metrics.add('switchyard.job.ends', [`t${each}`, 'succeeded'])
  expect(await ends('other')).toBe(150)
  for (let each = 0; each < 50; each++) metrics.add('switchyard.job.ends', ['late', 'succeeded'])
  const other = (await ends('other'))!
  expect(other).toBeGreaterThanOrEqual(150)
  expect(await ends('late')).toBe(50 - (other - 150))
  const labels = [...(await metrics.scrape()).text.matchAll(/^switchyard_job_ends_total\{tenant="([^"]+)"/gm)].map(([, label]) => label)
  expect(labels.length).toBe(51)
})

it('has what was declared from the beginning, at 0, and counts on from there', async () => {
  const metrics = new PrometheusMetrics()
  metrics.declare('switchyard.job.work.lost', ['a'])
  metrics.declare('switchyard.checkpoint.duration', ['a', 'error'])
  const lost = async () => valueOf((await metrics.scrape()).text, 'switchyard_job_work_lost_seconds_total{provider="a"}')
  expect(await lost()).toBe(0)
  expect(valueOf((await metrics.scrape()).text, 'switchyard_checkpoint_duration_seconds_count{provider="a",outcome="error"}')).toBe(0)
  metrics.add('switchyard.job.work.lost', ['a'], 2)
  metrics.declare('switchyard.job.work.lost', ['a'])
  expect(await lost()).toBe(2)
})

it('counts a queue at a cost that does not grow with it, once for however many ask', async () => {
  const queue = new AgentQueue({ redis: redis.config, prefix: redis.keys.prefix })
  after(() => queue.close())
  const connection = redis.connect()
  const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await connection.info('stats'))?.[1])
  const read = async () => await deploymentFigures(connection, { prefix: redis.keys.prefix, queue: redis.keys.queueName })
  const count = async () => {
    const before = await commands()
    const figures = await read()
    return { figures, cost: (await commands()) - before }
  }
  const job = (fields: object = {}) => ({ repository: 'acme/web', steps: ['true'], ...fields })
  await queue.enqueueMany(Array.from({ length: 5 }, () => job()))
  const few = await count()
  await queue.enqueueMany(Array.from({ length: 400 }, (_, index) => job({ priority: 1 + (index % 2) })))
  await queue.enqueue(job({ delay: '1h' }))
  const many = await count()
  expect(many.cost).toBeLessThanOrEqual(few.cost + 6)
  expect(many.figures.get('switchyard.queue.jobs')).toEqual(expect.arrayContaining([[['agents', 'waiting', 'no-consumer'], 405], [['agents', 'delayed', ''], 1], [['agents', 'active', ''], 0]]))

  const metrics = new PrometheusMetrics({ figures: read })
  const before = await commands()
  await Promise.all(Array.from({ length: 20 }, () => metrics.scrape()))
  expect((await commands()) - before).toBeLessThanOrEqual(2 * many.cost)
  const { text } = await metrics.scrape()
  expect(valueOf(text, 'switchyard_queue_jobs{queue="agents",state="waiting",reason="no-consumer"}')).toBe(405)
  expect(valueOf(text, 'switchyard_queue_oldest_age_seconds{queue="agents",state="waiting",reason="no-consumer"}')).toBeGreaterThan(0)
  expect(valueOf(text, 'switchyard_redis_up')).toBe(1)
})

it('tells a hundred groups of readers apart, whatever they are called, and counts the rest together', async () => {
  const queue = new AgentQueue({ redis: redis.config, prefix: redis.keys.prefix })
  after(() => queue.close())
  for (let index = 0; index < 3; index++) await queue.job((await queue.enqueue({ repository: 'acme/web', steps: ['true'] })).jobId).cancel('no more')
  const connection = redis.connect()
  const odd = ['"a"\n\\b', 'other', ...Array.from({ length: 98 }, (_, index) => `p${String(index).padStart(2, '0')}`)]
  for (const name of [...odd, 'z1', 'z2']) await new EventGroup(connection, redis.keys, name).open(name === 'z1' ? '$' : '0')
  const metrics = new PrometheusMetrics({ figures: () => deploymentFigures(connection, { prefix: redis.keys.prefix, queue: redis.keys.queueName }) })
  const { text } = await metrics.scrape()
  const unread = text.split('\n').filter((line) => line.startsWith('switchyard_events_unread{'))
  expect(unread).toHaveLength(101)
  expect(unread).toEqual(expect.arrayContaining(['switchyard_events_unread{group="\\"a\\"\\n\\\\b"} 3', 'switchyard_events_unread{group="\\"other\\""} 3', 'switchyard_events_unread{group="p97"} 3', 'switchyard_events_unread{group="other"} 3']))
  expect(text.split('\n').filter((line) => line.startsWith('switchyard_events_lag_seconds{'))).toHaveLength(101)
})

it('leaves out what it can’t read, rather than show an old figure', async () => {
  let fails = false
  const series: [MetricName, (readonly [string[], number])[]][] = [['switchyard.provider.running', [[['a'], 3]]], ['switchyard.events.added', [[[], 7]]]]
  const metrics = new PrometheusMetrics({ figuresForMs: 0, figures: () => (fails ? Promise.reject(new Error('away')) : Promise.resolve(new Map(series))) })
  expect(valueOf((await metrics.scrape()).text, 'switchyard_provider_running{provider="a"}')).toBe(3)
  expect(valueOf((await metrics.scrape()).text, 'switchyard_events_added_total')).toBe(7)
  fails = true
  const { text } = await metrics.scrape()
  expect(text).not.toMatch(/^switchyard_(provider_running|events_added_total)[ {]/m)
  expect(valueOf(text, 'switchyard_redis_up')).toBe(0)
})

it('says why a queue waits: what an operator has to mend first', () => {
  const load = (fields: Partial<ProviderLoad> = {}) => ({ provider: 'a', used: 0, effectiveLimit: 2, blockedUntilMs: null, breaker: 'closed', drain: null, ...fields }) as ProviderLoad
  const consumers = [{ providers: ['a'] }]
  expect(queueReason({ paused: true }, [], [])).toBe('paused')
  expect(queueReason({ paused: false }, [], [load()])).toBe('no-consumer')
  expect(queueReason({ paused: false }, consumers, [load({ used: 2 })])).toBe('capacity')
  expect(queueReason({ paused: false }, consumers, [load({ breaker: 'open' })])).toBe('capacity')
  const drain = { by: 'me', reason: null, atMs: 1, untilMs: null, move: false }
  expect(queueReason({ paused: false }, consumers, [load({ drain })])).toBe('capacity')
  // Another provider's room is of no use to consumers that do not have it.
  expect(queueReason({ paused: false }, consumers, [load({ used: 2 }), load({ provider: 'b' })])).toBe('capacity')
  expect(queueReason({ paused: false }, consumers, [load({ used: 1 })])).toBe('turn')
})

it.each<[string, boolean, { active: number; waiting: number }, number[], number]>([
  ['what waits and what runs', false, { active: 3, waiting: 4 }, [20, 10], 7],
  ['no more than there are places', false, { active: 3, waiting: 100_000 }, [20, 10], 30],
  ['what is in hand, where limits were lowered under it', false, { active: 12, waiting: 5 }, [4], 12],
  ['what is in hand of a paused queue', true, { active: 3, waiting: 100 }, [20], 3],
  ['nothing of an idle one', false, { active: 0, waiting: 0 }, [20], 0],
  ['what waits, before a consumer has said what providers there are', false, { active: 0, waiting: 9 }, [], 9],
])('wants consumers for %s', (_what, paused, { active, waiting }, limits, wanted) => {
  const loads = limits.map((effectiveLimit, index) => ({ provider: `p${index}`, effectiveLimit, drain: null }) as ProviderLoad)
  expect(wantedJobs({ paused, jobs: { active, waiting, delayed: 7, completed: 7, failed: 7 } }, loads)).toBe(wanted)
})

it('wants no consumers for places at a provider that is drained, but for those in use there', () => {
  const drain = { by: 'me', reason: null, atMs: 1, untilMs: null, move: false }
  const loads = [{ provider: 'a', effectiveLimit: 20, used: 2, drain }, { provider: 'b', effectiveLimit: 3, used: 1, drain: null }] as ProviderLoad[]
  expect(wantedJobs({ paused: false, jobs: { active: 3, waiting: 100, delayed: 0, completed: 0, failed: 0 } }, loads)).toBe(5)
})

it('measures Redis’ commands and scripts by their names, in pipelines too, and those that fail', async () => {
  const metrics = new PrometheusMetrics()
  const connection = redis.connect()
  measureRedis(connection, metrics)
  await connection.set('{m}x', '1')
  await connection.pipeline().get('{m}x').get('{m}x').exec()
  connection.defineCommand('switchyard:test-script', { numberOfKeys: 1, lua: 'return 1' })
  await (connection as unknown as Record<string, (key: string) => Promise<unknown>>)['switchyard:test-script']!('{m}x')
  await expect(connection.lpush('{m}x', '1')).rejects.toThrow('WRONGTYPE')
  await Promise.resolve()
  const { text } = await metrics.scrape()
  const count = (command: string) => valueOf(text, `switchyard_redis_command_duration_seconds_count{command="${command}"}`)
  expect([count('set'), count('get'), count('script:test-script')]).toEqual([1, 2, 1])
  expect(valueOf(text, 'switchyard_redis_errors_total{command="lpush"}')).toBe(1)
})
