import { describe, expect, it } from 'vitest'
import { type CompletionEvent, completionEvent, EventGroups, type EventHandler, subscribe, type SubscribeOptions, type TrimmedEvent } from '../../src/events/index.js'
import { createRedis, type EventBounds, readLog, RunStore } from '../../src/store/index.js'
import { after, record, result, startClusterNode, until, useRedis } from '../store/fixture.js'

const redis = useRedis()
const roomy: EventBounds = { maxCount: 1_000, maxBytes: 1e9, maxAgeMs: 1e9 }

async function endJobs(jobIds: readonly string[], events?: EventBounds, metadata: Record<string, string> = {}): Promise<void> {
  const store = new RunStore(redis.client, redis.keys, { events })
  for (const jobId of jobIds) {
    const acquired = await store.acquire(jobId, { holder: 'a', fresh: record(jobId) })
    if (acquired.kind !== 'acquired') throw new Error('ended')
    const end = result(jobId, { metadata })
    await store.append(jobId, acquired.fence, record(jobId), [{ step: 'a', stream: 'stdout', attempt: 1, offset: 0, data: Buffer.from('hello\n') }])
    await store.finish(jobId, acquired.fence, record(jobId), end, completionEvent(end))
  }
}

function listen(handler: EventHandler, options: SubscribeOptions = {}, group = 'group') {
  const errors: unknown[] = []
  const subscription = subscribe(redis.config, group, handler, { onError: (error) => errors.push(error), backoffMs: 5, ...options })
  after(() => subscription.close())
  return { subscription, errors }
}

const numbered = (count: number, name = 'job') => Array.from({ length: count }, (_value, index) => `${name}${index}`)
const groups = () => {
  const client = redis.connect()
  return new EventGroups(redis.keys, (work) => work(client))
}
const kept = async () => (await redis.client.xrange(redis.keys.events(), '-', '+')).map(([, fields]) => fields)

describe('the stream of events', () => {
  it('keeps so many bytes, and the newest event however large it is', async () => {
    const bounds = { ...roomy, maxBytes: 20_000 }
    await endJobs(numbered(60), bounds, { note: 'x'.repeat(1_000) })
    const bytes = (await kept()).reduce((sum, fields) => sum + fields[fields.indexOf('event') + 1]!.length, 0)
    expect(bytes).toBeLessThanOrEqual(20_000)
    expect(bytes).toBeGreaterThan(15_000)
    await endJobs(['large'], bounds, { note: 'x'.repeat(30_000) })
    expect((await kept()).map((fields) => fields[1])).toEqual(['large.1'])
    // Whoever gives no bounds, as producers do, keeps to those that were configured.
    await endJobs(['last'])
    expect((await kept()).map((fields) => fields[1])).toEqual(['last.1'])
  })

  it('keeps so many bytes also when a large event comes to very many small ones', async () => {
    const bytes = async () => (await kept()).reduce((sum, fields) => sum + fields[fields.indexOf('event') + 1]!.length, 0)
    await endJobs(numbered(400), roomy)
    const bounds = { ...roomy, maxBytes: await bytes() }
    await endJobs(['large'], bounds, { note: 'x'.repeat(bounds.maxBytes / 2) })
    expect(await bytes()).toBeLessThanOrEqual(bounds.maxBytes)
    // No more has gone than had to.
    expect(await bytes()).toBeGreaterThan(bounds.maxBytes * 0.9)
    expect((await kept()).at(-1)?.[1]).toBe('large.1')
  })

  it('keeps what came in one millisecond of a clock that stands, as far as it has room', async () => {
    const client = redis.connect()
    await endJobs(numbered(3), roomy)
    const newest = (await client.xrevrange(redis.keys.events(), '+', '-', 'COUNT', 1))[0]![0]
    // Redis' clock was set back: whatever comes has the newest one's time.
    const ahead = `${Number(newest.split('-')[0]) + 3_600_000}-0`
    await client.xadd(redis.keys.events(), ahead, 'id', 'ahead.1', 'event', '{}', 'n', 3, 'b', 0)
    await endJobs(numbered(100, 'more'), roomy)
    await endJobs(['last'], { ...roomy, maxBytes: 20_000 })
    expect((await kept()).length).toBeGreaterThan(5)
    expect((await kept()).at(-1)?.[1]).toBe('last.1')
  })

  it('keeps them for so long', async () => {
    const client = redis.connect()
    const [seconds] = await client.time()
    for (let index = 0; index < 5; index++) await client.xadd(redis.keys.events(), `${(Number(seconds) - 100) * 1000 + index}-0`, 'id', `old${index}.1`, 'event', '{}')
    await endJobs(['young'], { ...roomy, maxAgeMs: 200_000 })
    expect((await kept()).length).toBe(6)
    await endJobs(['younger'], { ...roomy, maxAgeMs: 50_000 })
    expect((await kept()).map((fields) => fields[1])).toEqual(['young.1', 'younger.1'])
  })
})

describe('a group that events were trimmed from', () => {
  it('is told how many, once, by an event of its own, which comes again when its handler fails', async () => {
    const seen: string[] = []
    const told: TrimmedEvent[] = []
    let failures = 0
    const options: SubscribeOptions = {
      onTrimmed: (event) => {
        if (failures++ === 0) throw new Error('not yet')
        told.push(event)
      },
    }
    await endJobs(['first'], roomy)
    const first = listen((event) => void seen.push(event.subject), options)
    await until(() => seen.length === 1, 'the first came')
    await first.subscription.close()
    const bounds = { ...roomy, maxBytes: 10_000 }
    await endJobs(numbered(50), bounds, { note: 'x'.repeat(1_000) })
    const left = (await kept()).length
    const missed = 50 - left
    expect(missed).toBeGreaterThan(30)
    listen((event) => void seen.push(event.subject), options)
    await until(() => told.length === 1 && seen.length === 1 + left, 'it is told, and the rest came')
    expect(told[0]).toMatchObject({ specversion: '1.0', type: 'dev.switchyard.events.trimmed', subject: 'group', data: { count: missed } })
    expect(failures).toBe(2)
    expect(await groups().list()).toMatchObject([{ group: 'group', missed, pending: 0, unread: 0 }])
    // A new group misses nothing: it begins with what is kept.
    const late: string[] = []
    listen((event) => void late.push(event.subject), { onTrimmed: (event) => void told.push(event) }, 'late')
    await until(() => late.length === left, 'a new group has what is kept')
    expect(told.length).toBe(1)
  })

  it('is told of what was trimmed between its attempts, as an error when it has no place for it', async () => {
    await endJobs(['a'])
    const { errors } = listen(() => Promise.reject(new Error('no')))
    await until(() => errors.length > 0, 'it failed')
    await redis.client.xtrim(redis.keys.events(), 'MAXLEN', 0)
    await until(() => errors.some((error) => String(error).includes('group group: 1 event was trimmed')), 'it is told')
    await until(async () => (await groups().list())[0]?.pending === 0, 'nothing is left')
  })
})

describe('an event', () => {
  it('names the end of the log: every piece of output has a lower number', async () => {
    await endJobs(['job'])
    const seen: CompletionEvent[] = []
    listen((event) => void seen.push(event))
    await until(() => seen.length === 1, 'it came')
    const numbers: number[] = []
    const source = { redis: redis.connect(), keys: redis.keys, openBlocking: () => redis.connect('blocking'), standing: async () => 'ended' as const }
    for await (const line of readLog(source, 'job')) numbers.push(line.seq)
    expect(numbers.length).toBeGreaterThan(0)
    expect(seen[0]?.logend).toBe(Math.max(...numbers) + 1)
  })
})

describe('a replay', () => {
  it('begins behind an event or at a time, for a new group and for one that is there', async () => {
    await endJobs(numbered(4))
    const seen: CompletionEvent[] = []
    listen((event) => void seen.push(event))
    await until(() => seen.length === 4, 'all came')
    await until(async () => (await groups().list())[0]?.pending === 0, 'all are done')
    const sequence = seen.find(({ subject }) => subject === 'job1')?.sequence ?? ''
    const late: string[] = []
    listen((event) => void late.push(event.subject), { from: { after: sequence } }, 'late')
    await until(() => late.length === 2, 'a new group has the later two')
    expect(late.sort()).toEqual(['job2', 'job3'])
    await groups().replay({ group: 'group', from: { after: sequence } })
    await until(() => seen.length === 6, 'they came again')
    expect(seen.slice(4).map(({ subject }) => subject).sort()).toEqual(['job2', 'job3'])
    await groups().replay({ group: 'group', from: { sinceMs: Number(seen[0]!.sequence!.split('-')[0]) } })
    await until(() => seen.length === 10, 'all came again')
    await endJobs(['next'])
    await until(() => seen.length === 11, 'and what comes after them')
    expect(await groups().list()).toMatchObject([{ missed: 0 }, { missed: 0 }])
  })

  it('says what of it is gone, as does who reads on from where it stood', async () => {
    const client = redis.client
    await endJobs(numbered(1))
    listen(() => undefined)
    await until(async () => (await groups().list())[0]?.pending === 0, 'it came')
    expect(await groups().replay({ group: 'group', from: { after: '0-0' } })).toEqual({ trimmed: null })
    await endJobs(numbered(9, 'more'))
    const ids = (await client.xrange(redis.keys.events(), '-', '+')).map(([id]) => id)
    await client.xtrim(redis.keys.events(), 'MAXLEN', 6)
    const gone = { atMost: 4, firstKept: ids[4] }
    for (const after of ['0-0', ids[1]!, `${ids[4]!.split('-')[0]!.slice(1)}-5`]) {
      expect(await groups().trimmed({ from: { after } })).toEqual(gone)
      expect(await groups().replay({ group: 'group', from: { after } })).toEqual({ trimmed: gone })
    }
    expect(await groups().trimmed({ from: { sinceMs: 1 } })).toEqual(gone)
    for (const after of [ids[4]!, ids[9]!, '9999999999999-0']) expect(await groups().trimmed({ from: { after } })).toBeNull()
    await client.xtrim(redis.keys.events(), 'MAXLEN', 0)
    expect(await groups().trimmed({ from: { after: ids[9]! } })).toEqual({ atMost: 10, firstKept: null })
  })

  it('needs a point and a group', async () => {
    await expect(groups().replay({ group: 'nobody', from: { sinceMs: 0 } })).rejects.toThrow('nobody has subscribed')
    await expect(groups().replay({ group: 'group', from: { after: 'job.1' } })).rejects.toThrow('from: must be')
    expect(() => subscribe(redis.config, 'group', () => undefined, { from: { sinceMs: -1 } })).toThrow('from: must be')
  })
})

it('works in a Redis Cluster, from the append to the dead event that is given back', async () => {
  const node = await startClusterNode()
  after(() => node.close())
  const client = createRedis({ url: node.url }, 'commands')
  after(() => client.disconnect())
  const end = completionEvent(result('job'))
  await new RunStore(client, redis.keys).cancel('job', 'enough', { result: result('job'), event: end })
  let broken = true
  const seen: CompletionEvent[] = []
  const errors: unknown[] = []
  const subscription = subscribe({ url: node.url }, 'group', (event) => {
    if (broken) throw new Error('no')
    seen.push(event)
  }, { attempts: 1, onError: (error) => errors.push(error) })
  after(() => subscription.close())
  const own = new EventGroups(redis.keys, (work) => work(client))
  await until(async () => (await own.list())[0]?.deadLetters === 1, 'it is given up')
  broken = false
  expect(await own.redeliver({ group: 'group', ids: 'all' })).toBe(1)
  await until(() => seen.length === 1, 'it was handled')
  await own.replay({ group: 'group', from: { sinceMs: 0 } })
  await until(() => seen.length === 2, 'it came again')
  expect(errors.map(String)).toEqual(['Error: no'])
})
