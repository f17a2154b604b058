import { Queue } from 'bullmq'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import type { ScheduleInput } from '../../src/job/schedule.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { monitorRedis } from '../servers/redis-monitor.js'
import { quickSettings, until } from './deployment.js'

/** Schedules on real consumers. What an outage or a set clock leaves in Redis is written there. */
let redis: EmbeddedRedis
const keys = new Keys()
const closing: (() => Promise<unknown> | undefined)[] = []
beforeAll(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  const client = createRedis({ url: redis.url }, 'commands')
  await client.flushall()
  client.disconnect()
})
afterAll(() => redis.close())

const job: JobSpecInput = { repository: 'bench/jobs', push: false, steps: ['sleep 0.01'] }
const hourly = (more: Partial<ScheduleInput> = {}): ScheduleInput => ({ every: '1h', job, ...more })
const hour = 3_600_000

function open() {
  const queue = new AgentQueue({ redis: { url: redis.url } })
  const client = createRedis({ url: redis.url }, 'commands')
  const bull = new Queue('agents', { connection: client, prefix: keys.prefix })
  const ticks = new Queue('agents', { connection: client, prefix: keys.ticksPrefix() })
  for (const each of [bull, ticks]) each.on('error', () => undefined)
  closing.push(async () => {
    await queue.close()
    await bull.close()
    await ticks.close()
    client.disconnect()
  })
  const jobs = async () => (await queue.list({ limit: 1_000 })).map(({ jobId }) => jobId)
  /** As if everything up to then had been seen to, and nothing since. */
  const handledUntil = async (id: string, atMs: number) => await client.hset(keys.schedule(id), 'handled', atMs)
  const only = async () => (await queue.schedules.list())[0]!
  return { queue, client, bull, ticks, jobs, handledUntil, only }
}

async function consume(lines: string[] = []): Promise<Consumer> {
  const consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 200 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
    settings: { ...quickSettings, reapIntervalMs: 1_000, reapGraceMs: 0 },
  })
  await consumer.start()
  closing.push(() => consumer.stop())
  return consumer
}

describe('a schedule', () => {
  it('begins a run at each of its times, once, with several consumers there', { timeout: 300_000 }, async () => {
    const { queue, client, ticks, only } = open()
    await consume()
    await consume()
    const made = await queue.schedules.upsert('often', { every: '1s', job: { ...job, tenant: 'acme', metadata: { team: 'web' }, secrets: [] }, overlap: 'allow' })
    expect(made).toMatchObject({ id: 'often', everyMs: 1_000, cron: null, missed: 'skip', overlap: 'allow', paused: false, last: null, skipped: null, job: { tenant: 'acme' } })
    expect((await ticks.getJobSchedulers()).map(({ key }) => key)).toEqual(['often'])
    await until('three runs have ended', async () => (await queue.list({ state: 'succeeded', tenant: 'acme' })).length >= 3, 40_000)
    await queue.schedules.pause('often')
    const runs = await queue.list({ tenant: 'acme' })
    const at = runs.flatMap(({ result, jobId }) => {
      const { scheduledAt, team } = result?.metadata ?? {}
      return typeof scheduledAt === 'string' ? [{ jobId, scheduledAt, team }] : []
    })
    expect(new Set(at.map(({ scheduledAt }) => scheduledAt)).size).toBe(at.length)
    for (const { jobId, scheduledAt, team } of at) {
      expect(Date.parse(scheduledAt) % 1_000).toBe(0)
      expect(jobId).toMatch(new RegExp(`^often-${scheduledAt.replace(/[-:]|\.\d+/g, '')}-[0-9a-f]{8}$`))
      expect(team).toBe('web')
    }
    await until('the last run’s result', async () => (await only()).last?.result?.status === 'succeeded')
    expect(await only()).toMatchObject({ paused: true, nextRunAt: null })
    // Nothing of the ticks stays.
    await until('no tick is left', async () => (await ticks.getJobCountByTypes('waiting', 'active', 'delayed', 'completed', 'failed', 'prioritized')) === 0)
    // Each run's end is told.
    const events = await client.xrange(keys.events(), '-', '+')
    expect(new Set(events.map(([, fields]) => fields[fields.indexOf('id') + 1])).size).toBe(events.length)

    await queue.schedules.remove('often')
    expect(await queue.schedules.list()).toEqual([])
    for (const call of [queue.schedules.get('often'), queue.schedules.pause('often'), queue.schedules.resume('often'), queue.schedules.remove('often')]) {
      await expect(call).rejects.toMatchObject({ code: 'SWY_SCHEDULE_UNKNOWN' })
    }
    expect(await client.keys(`${keys.schedule('')}*`)).toEqual([])
  })

  it('does not begin a run whose predecessor has not ended, and says so; or replaces it; or lets both run', { timeout: 300_000 }, async () => {
    const { queue, jobs, only } = open()
    const lines: string[] = []
    await consume(lines)
    const long = { ...job, steps: ['sleep 600'] }
    await queue.schedules.upsert('long', { every: '1s', job: long })
    await until('a run was not begun', async () => (await only()).skipped !== null)
    const first = (await only()).last!.jobId
    // There may be more by now: its time comes once a second.
    expect((await only()).skipped).toMatchObject({ count: expect.any(Number) as number, why: `the run before, job ${first}, has not ended (overlap: skip)` })
    expect(await jobs()).toEqual([first])
    await until('the log says so', () => lines.some((line) => line.includes('a scheduled run was not begun') && line.includes(first)))

    await queue.schedules.upsert('long', { every: '1s', job: long, overlap: 'replace' })
    const replaced = await queue.job(first).result({ timeoutMs: 150_000 })
    expect(replaced).toMatchObject({ status: 'cancelled', error: { code: 'SWY_CANCELLED', message: expect.stringMatching(/^replaced by the run of schedule "long" for 2/) as string } })
    await until('the next one', async () => (await only()).last!.jobId !== first)

    await queue.schedules.upsert('long', { every: '1s', job: long, overlap: 'allow' })
    await until('two run', async () => (await queue.list({ state: 'running' })).length >= 2)
    await queue.schedules.remove('long')
    for (const { jobId, result } of await queue.list({ limit: 1_000 })) if (result === null) await queue.job(jobId).cancel('enough')
  })

  it.each([
    ['skip', 0, 5],
    ['once', 1, 4],
    ['all', 5, 0],
  ] as const)('that was paused sees to what it missed when it goes on, by %s', { timeout: 300_000 }, async (missed, runs, skipped) => {
    const { queue, jobs, handledUntil, only } = open()
    await consume()
    // Half an hour past its last time, whatever the clock says now.
    const spec = { cron: `${(new Date().getUTCMinutes() + 30) % 60} * * * *`, job, missed, overlap: 'allow' } as const
    await queue.schedules.upsert('paused', spec)
    await queue.schedules.pause('paused')
    await handledUntil('paused', Date.now() - 5 * hour)
    await queue.schedules.upsert('paused', spec)
    expect(await only()).toMatchObject({ paused: true, nextRunAt: null })
    await queue.schedules.resume('paused')
    await until('it has seen to them', async () => Date.parse((await only()).nextRunAt ?? '') > Date.now())
    // A time is decided in one step, and its job added in the next.
    await until('the jobs are there', async () => (await jobs()).length >= runs)
    expect(await jobs()).toHaveLength(runs)
    expect((await only()).skipped?.count ?? 0).toBe(skipped)
  })

  it('goes on though its ticks were removed, and finishes what a consumer had decided that died', { timeout: 300_000 }, async () => {
    const { queue, client, ticks, jobs, handledUntil, only } = open()
    await consume()
    await queue.schedules.upsert('orphan', hourly({ missed: 'once' }))
    await ticks.obliterate({ force: true })
    await handledUntil('orphan', Date.now() - 2 * hour)
    await client.zadd(keys.schedules(), Date.now() - hour, 'orphan')
    await until('a run', async () => (await jobs()).length === 1)
    await until('its ticks are back', async () => (await ticks.getJobSchedulers()).length === 1)

    await until('the run has ended', async () => (await only()).last?.result != null)
    const decided = { jobId: 'orphan-decided', slotMs: Math.floor(Date.now() / hour) * hour, replaces: ['gone-by-now'] }
    await client.hset(keys.schedule('orphan'), 'pending', JSON.stringify(decided))
    await client.zadd(keys.schedules(), Date.now() - hour, 'orphan')
    await until('it is there', async () => (await jobs()).includes('orphan-decided'))
    expect(await queue.job('orphan-decided').result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await until('it is settled', async () => (await client.hexists(keys.schedule('orphan'), 'pending')) === 0)
  })

  it('has ticks at its times again that a clock which was ahead had put off', { timeout: 300_000 }, async () => {
    const { queue, ticks, jobs } = open()
    await queue.schedules.upsert('off', { every: '1s', job, missed: 'skip' })
    await ticks.removeJobScheduler('off')
    await ticks.upsertJobScheduler('off', { every: 1_000, startDate: Date.now() + 3 * hour }, { name: 'tick', data: { scheduleId: 'off' } })
    await consume()
    await until('the next tick is soon', async () => Number((await ticks.getJobScheduler('off'))?.next) < Date.now() + hour)
    await until('it runs', async () => (await jobs()).length > 3)
  })

  it('is asked for now and then, and not over and over, while Redis has no room to give its tick out', { timeout: 300_000 }, async () => {
    const { queue, client, only } = open()
    const lines: string[] = []
    await consume(lines)
    await queue.schedules.upsert('often', { every: '1s', job, overlap: 'allow' })
    await until('a run has begun', async () => (await only()).last !== null)
    await client.config('SET', 'maxmemory', '1')
    const said = (what: string) => lines.filter((line) => (JSON.parse(line) as { msg: string }).msg === what).length
    try {
      await until('time goes by', () => said('overdue schedules not looked at; tried again') > 0 && said('schedules') > 0)
    } finally {
      await client.config('SET', 'maxmemory', '0')
    }
    expect(said('schedules')).toBeLessThan(8)
    const { last } = await only()
    await until('it goes on', async () => (await only()).last?.jobId !== last?.jobId)
  })

  it('wakes nobody any more that was removed, or paused, by somebody who died before its ticks were stopped', { timeout: 300_000 }, async () => {
    const { queue, client, ticks, jobs } = open()
    await consume()
    await queue.schedules.upsert('gone', { every: '1s', job })
    await queue.schedules.upsert('still', { every: '1s', job })
    await client.del(keys.schedule('gone'))
    await client.zrem(keys.schedules(), 'gone')
    await client.hset(keys.schedule('still'), 'paused', Date.now())
    await client.zadd(keys.schedules(), 'inf', 'still')
    await until('no ticks are left', async () => (await ticks.getJobSchedulers()).length === 0)
    const before = await jobs()
    await queue.schedules.resume('still')
    await until('it goes on', async () => (await jobs()).length > before.length)
  })

  it('begins no run a second time that was cancelled after whoever had decided it had died', { timeout: 300_000 }, async () => {
    const { queue, client, bull } = open()
    await queue.schedules.upsert('orphan', hourly())
    const { jobId } = await queue.enqueue(job)
    await queue.job(jobId).cancel('no more')
    await client.hset(keys.schedule('orphan'), 'pending', JSON.stringify({ jobId, slotMs: Math.floor(Date.now() / hour) * hour, replaces: [] }))
    await client.zadd(keys.schedules(), Date.now() - hour, 'orphan')
    await consume()
    await until('it is settled', async () => (await client.hexists(keys.schedule('orphan'), 'pending')) === 0)
    expect(await bull.getJobState(jobId)).toBe('failed')
    expect(await queue.job(jobId).status()).toMatchObject({ state: 'cancelled' })
  })

  it('goes on after Redis’ clock was set back by hours, and begins no time twice', { timeout: 300_000 }, async () => {
    const { queue, client, jobs, handledUntil, only } = open()
    const id = 'back'
    await queue.schedules.upsert(id, { every: '1s', job, overlap: 'allow', missed: 'all' })
    await queue.schedules.pause(id)
    // By the clock before, which was ahead, all up to in three hours was seen to, and these were begun.
    const ahead = Math.ceil(Date.now() / 1_000) * 1_000 + 3_000
    const begun = [ahead, ahead + 1_000]
    await handledUntil(id, Date.now() + 3 * hour)
    await client.hset(keys.schedule(id), 'begun', JSON.stringify(begun.map(String)))
    await client.hdel(keys.schedule(id), 'paused')
    await client.zadd(keys.schedules(), Date.now() + 3 * hour, id)
    await client.set(keys.schedulesSeen(), Date.now() + 3 * hour)
    await consume()
    await until('it is past them', async () => Date.parse((await only()).last?.scheduledAt ?? '') > ahead + 2_000)
    await queue.schedules.remove(id)
    const all = await jobs()
    expect(all.length).toBeGreaterThan(0)
    for (const slot of begun) expect(all.filter((jobId) => jobId.includes(new Date(slot).toISOString().replace(/[-:]|\.\d+/g, '')))).toEqual([])
    expect(new Set(all).size).toBe(all.length)
  })

  it('is not begun early by a consumer whose clock is ahead: the tick waits until it is time', { timeout: 300_000 }, async () => {
    const { queue, ticks, jobs } = open()
    await queue.schedules.upsert('ahead', hourly())
    await consume()
    // As BullMQ names the tick of that time, promoted by a clock that is ahead.
    const atMs = Date.now() + 3_000
    const early = await ticks.add('tick', { scheduleId: 'ahead' }, { jobId: `repeat:ahead:${atMs}`, removeOnComplete: true })
    await until('it waits', async () => (await early.getState()) === 'delayed' || Date.now() > atMs)
    await until('it was looked at', async () => (await ticks.getJob(early.id!)) === undefined)
    expect(Date.now()).toBeGreaterThanOrEqual(atMs - 50)
    expect(await jobs()).toEqual([])
  })

  it('far off is waited for with less silence than a connection is given up after', { timeout: 300_000 }, async () => {
    const { queue } = open()
    await queue.schedules.upsert('far', hourly())
    await consume()
    const waits: number[] = []
    const monitor = await monitorRedis(redis.url, (_atMs, _client, args) => {
      if (args[0]?.toLowerCase() === 'bzpopmin' && args[1]?.startsWith(keys.ticksPrefix()) === true) waits.push(Number(args.at(-1)))
    })
    closing.push(() => (monitor.close(), undefined))
    await until('it waits', () => waits.length > 0)
    expect(Math.max(...waits)).toBeLessThan(10)
  })

  it('is refused with the field and the mend', async () => {
    const { queue } = open()
    for (const [id, input, sentence] of [
      ['a:b', hourly(), 'schedule id: must be letters'],
      ['a', hourly({ job: { ...job, steps: [] } }), 'job.steps: '],
      ['a', hourly({ job: { ...job, idempotencyKey: 'k' } }), 'job.idempotencyKey: is set by the schedule'],
      ['a', { every: '1h', cron: '* * * * *', job }, 'give one of the two'],
    ] as const) {
      await expect(queue.schedules.upsert(id, input)).rejects.toMatchObject({ code: 'SWY_INPUT_INVALID', message: expect.stringContaining(sentence) as string })
    }
    expect(await queue.schedules.list()).toEqual([])
  })
})
