import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parseJobSpec } from '../../src/job/spec.js'
import { ReadyJobs, RunStore } from '../../src/store/index.js'
import { lastRun, nextGeneration, queuedFacts, queuedFields, runFields } from '../../src/store/next-run.js'
import { record, result, useRedis } from './fixture.js'

const redis = useRedis()

const run = { generation: '1', result: '{}', atMs: '100' }
const job = { timestamp: '1' }

it.each<[string, Record<string, string>, Record<string, string>, number | null]>([
  ['BullMQ has ended it', run, { ...job, atm: '1', processedOn: '50', finishedOn: '110' }, null],
  ['its last holder has not told BullMQ', run, { ...job, processedOn: '50' }, null],
  ['its last holder died before it told BullMQ', run, { ...job, processedOn: '120', stc: '1' }, null],
  ['it is run again', run, { ...job, atm: '1' }, 2],
  ['it is run again, counted anew', run, job, 2],
  ['and somebody has taken it', run, { ...job, processedOn: '120' }, 2],
  ['and died, where it had been seen that it is run again', { ...run, again: '1' }, { ...job, processedOn: '120', stc: '1' }, 2],
  ['that was seen of an earlier run', { ...run, generation: '2', again: '1' }, { ...job, processedOn: '120', stc: '1' }, null],
  ['it had stalled while it ran', { ...run, stalls: '2' }, { ...job, stc: '2' }, 2],
  ['it was removed, and added anew', { ...run, stalls: '2' }, job, 2],
  ['it ended while it waited, and waits on', { ...run, stalls: '-', of: '1' }, job, null],
  ['and was removed, and added anew', { ...run, stalls: '-', of: '0' }, job, 2],
  ['another one was added under its id, and is taken', { ...run, stalls: '0', toldAtMs: '120', of: '0' }, { ...job, processedOn: '120' }, 2],
  ['whoever took it then was told that it has ended', { ...run, stalls: '0', toldAtMs: '120' }, { ...job, processedOn: '120' }, null],
  ['and it is run again, counted anew', { ...run, stalls: '0', toldAtMs: '120' }, { ...job, processedOn: '150' }, 2],
  ['it was taken by one whose clock is behind', { ...run, toldAtMs: '90' }, { ...job, processedOn: '50' }, 2],
  ['its last holder has not told BullMQ, and the clock was set back', { ...run, toldAtMs: '120' }, { ...job, processedOn: '120' }, null],
  ['it goes on', { generation: '1', atMs: '100' }, { ...job, processedOn: '120', stc: '1' }, null],
])('the next run of a job, where %s', (_what, last, queued, next) => {
  expect(ruled(last, queued)).toBe(next)
})

const both = (fields: Record<string, readonly (string | undefined)[]>): Record<string, string>[] =>
  Object.entries(fields).reduce<Record<string, string>[]>((all, [field, values]) => all.flatMap((each) => values.map((value) => (value === undefined ? each : { ...each, [field]: value }))), [{}])
const runs = both({ generation: ['1', '2'], result: [undefined, JSON.stringify(result('job'))], stalls: [undefined, '-', '1'], atMs: ['100'], toldAtMs: [undefined, '50', '200'], again: [undefined, '1'], of: [undefined, '1', '2'] })
const jobs = both({ timestamp: [undefined, '1'], finishedOn: [undefined, '1'], atm: [undefined, '1'], processedOn: [undefined, '50', '150', '250'], stc: [undefined, '1', '2'] }).filter((each) => Object.keys(each).length > 0)
function ruled(last: Record<string, string>, queued: Record<string, string>): number | null {
  const facts = queuedFacts(queuedFields.map((field) => queued[field] ?? null))
  return facts === null ? null : nextGeneration(facts, lastRun(runFields.map((field) => last[field] ?? null), Number(last['generation'])))
}

it('is the same for scripts, whatever a run and BullMQ’s job hold', async () => {
  const client = redis.connect()
  const source = readFileSync(new URL('../../src/store/lua/next-run.lua', import.meta.url), 'utf8')
  const pipeline = client.pipeline()
  runs.forEach((fields, index) => pipeline.hset(`${redis.keys.prefix}:run:${index}`, fields))
  jobs.forEach((fields, index) => pipeline.hset(`${redis.keys.prefix}:job:${index}`, fields))
  await pipeline.exec()
  const script = `${source}
local answers = {}
for i = 0, ARGV[2] - 1 do
  for k = 0, ARGV[3] - 1 do answers[#answers + 1] = nextRun.generation(ARGV[1] .. ':run:' .. i, ARGV[1] .. ':job:' .. k) or 0 end
end
return answers`
  const answers = (await client.eval(script, 1, redis.keys.run('any'), redis.keys.prefix, runs.length, jobs.length)) as number[]
  const differ = runs.flatMap((last, i) =>
    jobs.flatMap((queued, k) => {
      const here = ruled(last, queued)
      return (answers[i * jobs.length + k] ?? -1) === (here ?? 0) ? [] : [{ last, queued, here, there: answers[i * jobs.length + k] }]
    }),
  )
  expect(differ).toEqual([])
  expect(answers).toContain(3)
})

it('is the same for whoever has taken the job', async () => {
  const client = redis.connect()
  const store = new RunStore(client, redis.keys)
  const open = jobs.filter((each) => each['timestamp'] !== undefined && each['finishedOn'] === undefined)
  const cases = runs.flatMap((last) => open.map((queued) => ({ last, queued })))
  const pipeline = client.pipeline()
  cases.forEach(({ last, queued }, index) => pipeline.hset(redis.keys.run(`${index}`), { ...last, fence: '1', record: JSON.stringify(record(`${index}`, { generation: Number(last['generation']) })) }).hset(redis.keys.job(`${index}`), queued))
  await pipeline.exec()
  const differ = await Promise.all(
    cases.map(async ({ last, queued }, index) => {
      const taken = await store.acquire(`${index}`, { holder: 'a', fresh: record(`${index}`, { generation: Number(queued['atm'] ?? 0) + 1 }), stalls: Number(queued['stc'] ?? 0) })
      const there = taken.kind === 'ended' ? 'ended' : taken.record.generation
      const here = ruled(last, queued) ?? (last['result'] === undefined ? Number(last['generation']) : 'ended')
      return there === here ? [] : [{ last, queued, here, there }]
    }),
  )
  expect(differ.flat()).toEqual([])
})

/** BullMQ’s own means, by the fields and lists that its scripts write. */
function bullmq(jobId: string) {
  const client = redis.connect()
  const { keys } = redis
  const stalls = () => client.multi().lrem(keys.bullmq('active'), 0, jobId).hincrby(keys.job(jobId), 'stc', 1).del(`${keys.job(jobId)}:lock`).rpush(keys.bullmq('wait'), jobId).exec()
  return {
    add: () => client.multi().hset(keys.job(jobId), 'timestamp', 1, 'priority', 1).rpush(keys.bullmq('wait'), jobId).exec(),
    take: (atMs: number) => client.multi().zrem(keys.bullmq('prioritized'), jobId).lrem(keys.bullmq('wait'), 0, jobId).lpush(keys.bullmq('active'), jobId).hset(keys.job(jobId), 'processedOn', atMs).set(`${keys.job(jobId)}:lock`, 'x').exec(),
    /** Its holder has died. */
    stalls,
    end: () => client.multi().lrem(keys.bullmq('active'), 0, jobId).hset(keys.job(jobId), 'finishedOn', 1, 'atm', 1).del(`${keys.job(jobId)}:lock`).exec(),
    retryCountedAnew: () => client.multi().hdel(keys.job(jobId), 'finishedOn', 'processedOn', 'atm', 'ats').lpush(keys.bullmq('wait'), jobId).exec(),
    putBack: () => client.multi().lrem(keys.bullmq('active'), 0, jobId).del(`${keys.job(jobId)}:lock`).zadd(keys.bullmq('prioritized'), 2 ** 32, jobId).exec(),
    stalled: async () => Number((await client.hget(keys.job(jobId), 'stc')) ?? 0),
  }
}

const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'] })
type Way = readonly ('taken' | 'taken as unlisted' | 'dies' | 'is put back' | 'is listed' | 'is acquired')[]

it.each<[way: Way, more: { readonly retried?: boolean; readonly heldBy?: 'nobody' | 'another' }, next: 'again' | 'ended']>([
  [['taken'], { retried: true }, 'again'],
  [['is listed', 'taken'], { retried: true }, 'again'],
  // Whoever took it died before it was ever listed.
  [['taken', 'dies', 'is listed', 'taken'], { retried: true }, 'again'],
  [['taken as unlisted', 'dies', 'taken'], { retried: true }, 'again'],
  [['taken as unlisted', 'is put back', 'is listed', 'taken', 'dies', 'taken'], { retried: true }, 'again'],
  [['taken', 'is put back', 'is listed', 'taken', 'dies', 'taken'], { retried: true }, 'again'],
  [['is listed', 'taken', 'dies', 'is listed', 'taken', 'dies', 'taken'], { retried: true }, 'again'],
  // Whoever had it died between its end and BullMQ's.
  [['dies', 'taken'], {}, 'ended'],
  [['dies', 'taken', 'dies', 'taken'], {}, 'ended'],
  [['dies', 'is listed', 'taken', 'is put back', 'is listed', 'taken'], {}, 'ended'],
  [['dies', 'is listed', 'taken', 'dies', 'is listed', 'taken'], {}, 'ended'],
  [['dies', 'taken as unlisted', 'is put back', 'is listed', 'taken'], {}, 'ended'],
  [['dies', 'taken as unlisted', 'is put back', 'taken'], {}, 'ended'],
  [['dies', 'taken', 'is acquired', 'dies', 'is listed', 'taken'], {}, 'ended'],
  // It had lost the job by then: it stood in the queue, or another had taken it.
  [['taken'], { heldBy: 'nobody' }, 'ended'],
  [['is listed', 'taken'], { heldBy: 'nobody' }, 'ended'],
  [[], { heldBy: 'another' }, 'ended'],
  [['dies', 'is listed', 'taken'], { heldBy: 'another' }, 'ended'],
])('a job whose run has ended, which then %j, with %j: %s', async (way, { retried = false, heldBy }, next) => {
  const client = redis.connect()
  const store = new RunStore(client, redis.keys)
  const ready = new ReadyJobs(client, redis.keys)
  const queue = bullmq('job')
  await queue.add()
  await queue.take(1)
  const first = await store.acquire('job', { holder: 'a', fresh: record('job'), stalls: 0 })
  if (first.kind !== 'acquired') throw new Error('the run has ended')
  if (heldBy !== undefined) await queue.stalls()
  if (heldBy === 'another') await queue.take(2)
  await store.finish('job', first.fence, record('job'), result('job'), { id: 'job.1' })
  if (retried) {
    await queue.end()
    await queue.retryCountedAnew()
  }
  const acquire = async (holder: string) => await store.acquire('job', { holder, fresh: record('job'), stalls: await queue.stalled() })
  let takes = 10
  for (const what of way) {
    if (what === 'taken' || what === 'taken as unlisted') await queue.take(takes++)
    if (what === 'taken as unlisted') await ready.standing('job', await queue.stalled())
    if (what === 'dies') await queue.stalls()
    if (what === 'is put back') await queue.putBack()
    if (what === 'is listed') await ready.add([{ jobId: 'job', spec }], { strays: true })
    if (what === 'is acquired') await acquire('b')
  }
  expect(await acquire('c')).toMatchObject(next === 'again' ? { kind: 'acquired', created: true, record: { generation: 2 } } : { kind: 'ended' })
})
