import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { FenceLostError, NewerReleaseError } from '../../src/job/errors.js'
import type { LogChunk } from '../../src/job/log.js'
import { createRedis, ReadyJobs, RunStore } from '../../src/store/index.js'
import { after, record, result, startProxy, storedRecord, useRedis } from './fixture.js'

const redis = useRedis()
const stored = (options = {}) => new RunStore(redis.client, redis.keys, options)
const event = (jobId: string, generation = 1) => ({ id: `${jobId}.${generation}` })
const out = (offset: number, data: string, fields: Partial<LogChunk> = {}): LogChunk => ({
  step: 'agent',
  stream: 'stdout',
  attempt: 1,
  offset,
  data: Buffer.from(data, 'latin1'),
  ...fields,
})

async function acquire(store: RunStore, jobId: string, holder = 'a', generation = 1) {
  const acquired = await store.acquire(jobId, { holder, fresh: record(jobId, { generation }) })
  if (acquired.kind !== 'acquired') throw new Error('the run has ended')
  return acquired
}

describe('taking over', () => {
  it('starts a run once, and hands the same record to the next holder under a higher fence', async () => {
    const store = stored()
    const first = await acquire(store, 'job')
    expect(first).toMatchObject({ created: true, cancel: null })
    await store.save('job', first.fence, record('job', { phase: 'steps', stepIndex: 2 }))
    const second = await acquire(store, 'job', 'b')
    expect(second).toMatchObject({ created: false, record: { phase: 'steps', stepIndex: 2 } })
    expect(second.fence).toBeGreaterThan(first.fence)
    expect(await store.read('job')).toMatchObject({ fence: second.fence, holder: 'b', result: null })
  })

  it('refuses every write of a holder that lost its fence, and changes nothing', async () => {
    const store = stored()
    const old = await acquire(store, 'job')
    const held = await acquire(store, 'job', 'b')
    await store.save('job', held.fence, record('job', { stepIndex: 5 }), 'by b')
    await expect(store.save('job', old.fence, record('job'))).rejects.toThrow(FenceLostError)
    await expect(store.append('job', old.fence, record('job'), [out(0, 'x')])).rejects.toThrow(FenceLostError)
    await expect(store.finish('job', old.fence, record('job'), result('job'), event('job'))).rejects.toThrow(FenceLostError)
    expect(await store.read('job')).toMatchObject({ fence: held.fence, reason: 'by b', record: { stepIndex: 5 }, result: null })
    expect(await redis.client.exists(redis.keys.log('job'), redis.keys.events())).toBe(0)
  })

  it('is for who has the job by BullMQ’s lock alone, and not of another job’s run that was removed under the same id', async () => {
    const store = stored()
    const client = redis.connect()
    const take = async (token: string) => (await store.acquire('job', { holder: token, fresh: record('job'), stalls: 0, token })).kind
    const add = (timestamp: number, token: string) => client.multi().hset(redis.keys.job('job'), { timestamp, processedOn: timestamp }).set(`${redis.keys.job('job')}:lock`, token).exec()
    expect(await take('one')).toBe('gone')
    await add(1, 'one')
    expect([await take('two'), await take('one'), await take('one')]).toEqual(['gone', 'acquired', 'acquired'])
    const before = await acquire(store, 'job')
    await client.del(redis.keys.job('job'))
    await add(2, 'two')
    expect([await take('one'), await take('two')]).toEqual(['gone', 'other'])
    // However it ends, it is not the end of the job that is there now.
    await store.finish('job', before.fence, record('job'), result('job'), event('job'))
    expect(await store.standings(['job'])).toMatchObject([{ result: null, known: true }])
    expect(await store.acquire('job', { holder: 'two', fresh: record('job'), stalls: 0, token: 'two' })).toMatchObject({ kind: 'acquired', created: true, record: { generation: 2 } })
  })

  it('never gives a number out again that a crash or a failover of Redis made it forget', async () => {
    const store = stored()
    const client = redis.connect()
    await acquire(store, 'job')
    const before = await client.dumpBuffer(redis.keys.run('job'))
    const forgotten = await acquire(store, 'job', 'b')
    await client.restore(redis.keys.run('job'), 0, before, 'REPLACE')
    await delay(5)
    const next = await acquire(store, 'job', 'c')
    expect(next.fence).not.toBe(forgotten.fence)
    await expect(store.save('job', forgotten.fence, record('job'))).rejects.toThrow(FenceLostError)
    await store.save('job', next.fence, record('job'))
  })

  it('lets exactly one of many racing holders write', async () => {
    const stores = Array.from({ length: 8 }, () => stored())
    const fences = await Promise.all(stores.map((store, index) => acquire(store, 'job', `h${index}`)))
    expect(new Set(fences.map(({ fence }) => fence)).size).toBe(8)
    expect(fences.filter(({ created }) => created)).toHaveLength(1)
    const writes = await Promise.allSettled(stores.map((store, index) => store.save('job', fences[index]!.fence, record('job', { stepIndex: index }))))
    expect(writes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    const winner = fences.findIndex(({ fence }) => fence === Math.max(...fences.map((acquired) => acquired.fence)))
    expect((await stored().read('job'))?.record?.stepIndex).toBe(winner)
  })
})

describe('between releases', () => {
  it('keeps the fields of a newer release, at every depth, when an older one writes the record back', async () => {
    const store = stored()
    await acquire(store, 'job')
    const attempt = { provider: 'a', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running', error: null, region: 'eu' }
    const newer = { ...record('job', { phase: 'steps' }), colour: 'blue', sandbox: { provider: 'a', id: 's', createdAtMs: 1, repositoryPath: null, zone: 7 }, attempts: [attempt] }
    await redis.client.hset(redis.keys.run('job'), 'record', JSON.stringify(newer))
    const { fence, record: read } = await acquire(store, 'job', 'older')
    await store.save('job', fence, { ...read, stepIndex: 1 })
    expect(await storedRecord(redis.connect(), redis.keys.run('job'))).toEqual({ ...newer, stepIndex: 1 })
  })

  it('gives a result of a newer release with what it has besides', async () => {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    await store.finish('job', fence, record('job', { phase: 'ended' }), result('job'), event('job'))
    await redis.client.hset(redis.keys.run('job'), 'result', JSON.stringify({ ...result('job'), cost: { euros: 3 } }))
    expect((await store.standings(['job']))[0]?.result).toMatchObject({ status: 'succeeded', cost: { euros: 3 } })
  })

  it('says of a record that it can’t read what is the matter, and still shows the others in a list', async () => {
    const store = stored()
    await acquire(store, 'job')
    await acquire(store, 'other')
    await redis.client.hset(redis.keys.run('job'), 'record', JSON.stringify({ ...record('job'), phase: 'dreaming' }))
    await expect(store.acquire('job', { holder: 'older', fresh: record('job') })).rejects.toThrow(NewerReleaseError)
    await expect(store.acquire('job', { holder: 'older', fresh: record('job') })).rejects.toThrow(/run record can't be read by this release \(phase: must be .*update this process/)
    await expect(store.readMany(['job', 'other'])).rejects.toThrow(NewerReleaseError)
    const [unread, other] = await store.readMany(['job', 'other'], { forShow: true })
    expect(unread).toMatchObject({ record: null, reason: expect.stringContaining('by this release') as string })
    expect(other?.record?.phase).toBe('placing')
  })
})

describe('what a write sends', () => {
  const steps = (count: number) => Array.from({ length: count }, (_, index) => ({ name: `step ${index}`, exitCode: 0, durationMs: 9, stdoutTail: 'o'.repeat(4_096), stderrTail: 'e'.repeat(4_096) }))

  it('is what changed: fifty steps that print much, each with its tails, send 5 MB', async () => {
    const client = redis.connect()
    const store = new RunStore(client, redis.keys)
    const { fence, record: fresh } = await acquire(store, 'job')
    const sent = async () => Number(/total_net_input_bytes:(\d+)/.exec(await client.info('stats'))?.[1])
    const before = await sent()
    let current = fresh
    for (const [index, step] of steps(50).entries()) {
      const writes: Promise<unknown>[] = []
      for (let piece = 1; piece <= 33; piece++) {
        const running = { key: `step-1-${index}`, startedAtMs: 1, stdoutOffset: piece * 1_024, stderrOffset: 0, timedOut: false }
        current = { ...current, running }
        writes.push(store.append('job', fence, current, [out((piece - 1) * 1_024, 'x'.repeat(1_024), { step: step.name })]))
      }
      current = { ...current, running: null, stepIndex: index + 1, steps: [...current.steps, step] }
      await Promise.all([...writes, store.save('job', fence, current)])
    }
    const bytes = (await sent()) - before
    // 1.7 MB of it is the output itself, 0.4 MB the tails.
    expect(bytes).toBeLessThan(5_000_000)
    expect((await store.read('job'))?.record).toEqual(current)
  })

  it('is the whole record where Redis has lost what the last write left, or has refused it', async () => {
    const store = stored()
    const client = redis.connect()
    const { fence, record: fresh } = await acquire(store, 'job')
    await store.save('job', fence, { ...fresh, phase: 'preparing' })
    // As after a failover to a replica that lacks two writes.
    const before = await client.dumpBuffer(redis.keys.run('job'))
    const log = { step: 'agent', stream: 'stdout' as const, attempt: 1 }
    await store.append('job', fence, { ...fresh, phase: 'steps', steps: steps(1) }, [{ ...log, offset: 0, data: Buffer.from('one') }])
    await store.save('job', fence, { ...fresh, phase: 'steps', steps: steps(1), stepIndex: 1 })
    await client.restore(redis.keys.run('job'), 0, before, 'REPLACE')
    await client.del(redis.keys.log('job'), redis.keys.logAccount('job'))
    const latest = { ...fresh, phase: 'pushing' as const, steps: steps(2), stepIndex: 1 }
    // Several at once, as when a supervisor says something while it writes.
    await Promise.all([
      store.append('job', fence, { ...latest, stepIndex: 0 }, [{ ...log, offset: 3, data: Buffer.from('two') }]),
      store.save('job', fence, { ...latest, steps: steps(1) }),
      store.save('job', fence, latest),
    ])
    expect((await store.read('job'))?.record).toEqual(latest)
    expect(await client.xlen(redis.keys.log('job'))).toBe(1)
    await store.save('job', fence, { ...latest, stepIndex: 2 })
    expect((await stored().read('job'))?.record).toEqual({ ...latest, stepIndex: 2 })
  })

  it('is taken over as it stands, and gone on from', async () => {
    const store = stored()
    const first = await acquire(store, 'job')
    await store.save('job', first.fence, { ...first.record, phase: 'steps', steps: steps(2) })
    const next = stored()
    const second = await acquire(next, 'job', 'b')
    expect(second.record).toEqual({ ...first.record, phase: 'steps', steps: steps(2) })
    await next.save('job', second.fence, { ...second.record, steps: steps(3) })
    // A restart of the whole job: the list is shorter.
    await next.save('job', second.fence, { ...second.record, phase: 'placing', steps: [] })
    await next.save('job', second.fence, { ...second.record, phase: 'placing', steps: steps(1) })
    expect((await stored().read('job'))?.record).toEqual({ ...first.record, phase: 'placing', steps: steps(1) })
  })
})

describe('ending', () => {
  it('writes record, result and event together, once, however often it is called', async () => {
    const store = stored({ retentionMs: 60_000 })
    const client = redis.connect()
    const { fence } = await acquire(store, 'job')
    await store.append('job', fence, record('job'), [out(0, 'hello')])
    expect(await client.pttl(redis.keys.run('job'))).toBe(-1)
    await store.finish('job', fence, record('job', { phase: 'ended' }), result('job'), event('job'))
    await store.finish('job', fence, record('job', { phase: 'ended' }), result('job'), event('job'))
    expect((await client.xrange(redis.keys.events(), '-', '+')).map(([, fields]) => fields)).toEqual([['id', 'job.1', 'event', '{"id":"job.1"}', 'n', '1', 'b', '14', 'log', '2']])
    expect(await store.read('job')).toMatchObject({ record: { phase: 'ended' }, result: { status: 'succeeded' } })
    for (const key of [redis.keys.run('job'), redis.keys.log('job'), redis.keys.logAccount('job')]) {
      expect(await client.pttl(key), key).toBeGreaterThan(0)
    }
    expect(await store.acquire('job', { holder: 'b', fresh: record('job') })).toEqual({ kind: 'ended', result: result('job') })
    await expect(store.save('job', fence, record('job'))).rejects.toThrow(FenceLostError)
  })

  it('leaves of the record what the result does not say, and nothing of its course', async () => {
    const store = stored()
    const { fence, record: fresh } = await acquire(store, 'job')
    const attempts = [{ provider: 'a', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:00:01.000Z', outcome: 'succeeded' as const, error: null }]
    const base = { ref: 'refs/heads/main', sha: 'a'.repeat(40) }
    await store.save('job', fence, { ...fresh, phase: 'steps', base, attempts, sandbox: { provider: 'a', id: 's', createdAtMs: 1, repositoryPath: null } }, 'waits')
    const ended = { ...fresh, phase: 'ended' as const, base, attempts, abandoned: [{ provider: 'a', id: 's' }], outcome: { status: 'succeeded' as const, error: null } }
    await store.finish('job', fence, ended, result('job', { baseSha: base.sha, attempts }), event('job'))
    const hash = await redis.client.hgetall(redis.keys.run('job'))
    expect(Object.keys(hash).sort()).toEqual(['atMs', 'fence', 'generation', 'of', 'record', 'result', 'stalls'])
    expect(JSON.parse(hash['record'] ?? '')).toEqual({ startedAtMs: 1, base: { ref: base.ref }, abandoned: ended.abandoned })
    expect((await store.read('job'))?.record).toEqual(ended)
  })

  it('starts over for a higher generation, with a log of its own, and fences off the one before', async () => {
    const store = stored()
    const first = await acquire(store, 'job')
    await store.append('job', first.fence, record('job'), [out(0, 'one')])
    await store.finish('job', first.fence, record('job'), result('job', { status: 'failed' }), event('job'))
    const second = await acquire(store, 'job', 'b', 2)
    expect(second).toMatchObject({ created: true, record: { generation: 2 }, cancel: null })
    expect(await redis.client.pttl(redis.keys.run('job'))).toBe(-1)
    expect(await redis.client.exists(redis.keys.log('job'))).toBe(0)
    expect(await store.read('job')).toMatchObject({ generation: 2, result: null })
    await expect(store.finish('job', first.fence, record('job'), result('job'), event('job'))).rejects.toThrow(FenceLostError)
    await store.finish('job', second.fence, record('job', { generation: 2 }), result('job'), event('job', 2))
    expect(await redis.client.xlen(redis.keys.events())).toBe(2)
  })

  it.each([0, 1])('numbers what a retry prints after the end of the run before, which printed %d times', async (times) => {
    const store = stored()
    const client = redis.connect()
    const first = await acquire(store, 'job')
    for (let index = 0; index < times; index++) await store.append('job', first.fence, record('job'), [out(0, 'one')])
    await store.finish('job', first.fence, record('job'), result('job', { status: 'failed' }), event('job'))
    await client.hset(redis.keys.job('job'), { timestamp: 1, atm: 1 })
    const [{ oldLogEnd } = { oldLogEnd: -1 }] = await store.standings(['job'])
    expect(oldLogEnd).toBe(times + 1)
    const second = await acquire(store, 'job', 'b', 2)
    await store.append('job', second.fence, second.record, [out(0, 'two')])
    expect((await client.xrange(redis.keys.log('job'), '-', '+')).map(([id]) => id)).toEqual([`${times + 2}-0`])
  })

  it('bounds the event stream', async () => {
    const store = stored({ events: { maxCount: 100, maxBytes: 1e9, maxAgeMs: 1e9 } })
    for (let index = 0; index < 400; index++) {
      const { fence } = await acquire(store, `job${index}`)
      await store.finish(`job${index}`, fence, record(`job${index}`), result(`job${index}`), event(`job${index}`))
    }
    const length = await redis.client.xlen(redis.keys.events())
    // Redis trims by whole nodes of 100 entries.
    expect(length).toBeGreaterThanOrEqual(100)
    expect(length).toBeLessThanOrEqual(200)
  })
})

describe('cancelling', () => {
  it('ends a job that nobody has taken, so that a holder who comes late finds it ended', async () => {
    const store = stored()
    const cancelled = result('job', { status: 'cancelled', error: { kind: 'cancelled', message: 'enough' } })
    expect(await store.cancel('job', 'enough', { result: cancelled, event: event('job') })).toBe('cancelled')
    expect(await store.cancel('job', 'again', { result: cancelled, event: event('job') })).toBe('ended')
    expect(await store.acquire('job', { holder: 'a', fresh: record('job') })).toEqual({ kind: 'ended', result: cancelled })
    expect(await redis.client.xlen(redis.keys.events())).toBe(1)
  })

  it('is not the end of a job that is added under its id once it was removed', async () => {
    const store = stored()
    const client = redis.connect()
    const add = (jobId: string, timestamp: number) => client.hset(redis.keys.job(jobId), { timestamp })
    // One was cancelled while it waited; one ended in nobody's hands, before and after it was removed.
    await add('cancelled', 1)
    await store.cancel('cancelled', 'enough', { result: result('cancelled', { status: 'cancelled' }), event: event('cancelled') })
    for (const jobId of ['removed', 'forgotten']) {
      await add(jobId, 1)
      const { fence } = await acquire(store, jobId)
      if (jobId === 'forgotten') await client.del(redis.keys.job(jobId))
      await store.finish(jobId, fence, record(jobId), result(jobId), event(jobId))
    }
    const ids = ['cancelled', 'removed', 'forgotten']
    expect((await store.standings(ids)).map(({ result: ended }) => ended?.status)).toEqual(['cancelled', 'succeeded', 'succeeded'])
    for (const jobId of ids) {
      await client.del(redis.keys.job(jobId))
      await add(jobId, 2)
      expect(await store.standings([jobId]), jobId).toMatchObject([{ queued: true, result: null }])
      expect(await store.acquire(jobId, { holder: 'b', fresh: record(jobId), stalls: 0 }), jobId).toMatchObject({ created: true, record: { generation: 2 } })
      expect(await client.hexists(redis.keys.run(jobId), 'of'), jobId).toBe(0)
    }
  })

  it.each<[string, (job: { take: (atMs: number) => Promise<unknown>; die: () => Promise<unknown> }) => Promise<unknown>]>([
    ['was told of its end', () => Promise.resolve()],
    ['died, and whoever took it next did too', async (old) => [await old.die(), await old.take(11), await new ReadyJobs(redis.client, redis.keys).standing('job', 1), await old.die()]],
  ])('nor is the end of a run whose holder %s, however often whoever takes the new one dies', async (_what, goes) => {
    const store = stored()
    const client = redis.connect()
    const queue = {
      take: (atMs: number) => client.multi().hset(redis.keys.job('job'), { processedOn: atMs }).set(`${redis.keys.job('job')}:lock`, 'token').exec(),
      die: () => client.multi().hincrby(redis.keys.job('job'), 'stc', 1).del(`${redis.keys.job('job')}:lock`).exec(),
    }
    await client.hset(redis.keys.job('job'), { timestamp: 1 })
    await queue.take(10)
    const { fence } = await acquire(store, 'job')
    await store.finish('job', fence, record('job'), result('job'), event('job'))
    await goes(queue)
    await client.del(redis.keys.job('job'), `${redis.keys.job('job')}:lock`)
    await client.hset(redis.keys.job('job'), { timestamp: 2 })
    for (const atMs of [20, 21]) {
      await queue.take(atMs)
      await queue.die()
    }
    await queue.take(22)
    expect(await store.acquire('job', { holder: 'b', fresh: record('job'), stalls: 2 })).toMatchObject({ created: true, record: { generation: 2 } })
  })

  it('of a job that was added under the id of one whose run is still open is that of the new one', async () => {
    const store = stored()
    const client = redis.connect()
    const [lock, queued] = [`${redis.keys.job('job')}:lock`, redis.keys.job('job')]
    const take = { holder: 'b', fresh: record('job'), stalls: 0, token: 'token' }
    await client.multi().hset(queued, { timestamp: 1, processedOn: 10 }).set(lock, 'token').exec()
    const old = await store.acquire('job', take)
    if (old.kind !== 'acquired') throw new Error(old.kind)
    await client.multi().del(queued, lock).hset(queued, { timestamp: 2 }).exec()
    expect(await store.cancel('job', 'enough', null)).toBe('requested')
    // The old one is not asked to end by that.
    expect(await store.cancelRequests(['job'])).toEqual(new Map())
    await store.finish('job', old.fence, record('job'), result('job'), event('job'))
    await client.multi().hset(queued, { processedOn: 20 }).set(lock, 'token').exec()
    expect(await store.acquire('job', take)).toMatchObject({ created: true, cancel: { reason: 'enough' } })
    // Whoever takes it over hears of it as well.
    expect(await store.acquire('job', take)).toMatchObject({ created: false, cancel: { reason: 'enough' } })
  })

  it('tells the holder at its next write, and the next holder at its takeover; the first reason counts', async () => {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    const waiting = { result: result('job', { status: 'cancelled' }), event: event('job') }
    expect(await store.cancel('job', 'first', waiting)).toBe('requested')
    expect(await store.cancel('job', 'second', null)).toBe('requested')
    expect((await store.save('job', fence, record('job'))).cancel).toMatchObject({ reason: 'first' })
    expect((await store.append('job', fence, record('job'), [out(0, 'x')])).cancel).toMatchObject({ reason: 'first' })
    expect((await acquire(store, 'job', 'b')).cancel).toMatchObject({ reason: 'first' })
    expect(await redis.client.exists(redis.keys.events())).toBe(0)
  })

  it('reaches the first holder when it came before anybody took the job, and does not reach a later generation', async () => {
    const store = stored()
    expect(await store.cancel('job', 'early', null)).toBe('requested')
    expect(await store.read('job')).toBeNull()
    const first = await acquire(store, 'job')
    expect(first.cancel).toMatchObject({ reason: 'early' })
    expect(await redis.client.pttl(redis.keys.run('job'))).toBe(-1)
    await store.finish('job', first.fence, record('job'), result('job', { status: 'cancelled' }), event('job'))
    expect((await acquire(store, 'job', 'b', 2)).cancel).toBeNull()
  })

  it('is found by asking, for whoever may have missed the signal', async () => {
    const store = stored()
    for (const jobId of ['a', 'b']) await acquire(store, jobId)
    await store.cancel('b', 'enough', null)
    expect(await store.cancelRequests(['a', 'b', 'unknown'])).toEqual(new Map([['b', { reason: 'enough', atMs: expect.any(Number) as number }]]))
    expect(await store.cancelRequests([])).toEqual(new Map())
  })

  // A consumer that had taken the retry of a cancelled job, and looked for requests before it began the next run, cancelled that too.
  it('ends with its run: whoever has the next one in hand finds none, whatever an older release left', async () => {
    const store = stored()
    const client = redis.connect()
    for (const jobId of ['supervised', 'waiting', 'older']) {
      if (jobId === 'waiting') {
        expect(await store.cancel(jobId, 'enough', { result: result(jobId, { status: 'cancelled' }), event: event(jobId) })).toBe('cancelled')
      } else {
        const { fence } = await acquire(store, jobId)
        await store.cancel(jobId, 'enough', null)
        expect((await store.cancelRequests([jobId])).size).toBe(1)
        await store.finish(jobId, fence, record(jobId), result(jobId, { status: 'cancelled' }), event(jobId))
      }
      if (jobId === 'older') await client.hset(redis.keys.run(jobId), { cancelReason: 'enough', cancelAtMs: 1 })
      else expect(await client.hmget(redis.keys.run(jobId), 'cancelReason', 'cancelAtMs')).toEqual([null, null])
    }
    expect(await store.cancelRequests(['supervised', 'waiting', 'older'])).toEqual(new Map())
    expect((await store.readMany(['supervised', 'waiting', 'older'])).map((run) => run?.cancel)).toEqual([null, null, null])
  })

  it('ends a retry that nobody has taken yet', async () => {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    await store.finish('job', fence, record('job'), result('job', { status: 'failed' }), event('job'))
    const waiting = { result: result('job', { status: 'cancelled' }), event: event('job', 2), generation: 2 }
    expect(await store.cancel('job', 'no', waiting)).toBe('cancelled')
    expect(await store.read('job')).toMatchObject({ generation: 2, record: null, result: { status: 'cancelled' } })
  })

  it('against a racing takeover has one outcome: ended before it, or requested of its holder', async () => {
    for (let round = 0; round < 30; round++) {
      const jobId = `job${round}`
      const [a, b] = [stored(), stored()]
      const [outcome, acquired] = await Promise.all([
        a.cancel(jobId, 'no', { result: result(jobId, { status: 'cancelled' }), event: event(jobId) }),
        b.acquire(jobId, { holder: 'h', fresh: record(jobId) }),
      ])
      expect(acquired.kind).toBe(outcome === 'cancelled' ? 'ended' : 'acquired')
    }
  })
})

describe('output', () => {
  const entries = async (jobId: string) =>
    (await redis.client.xrangeBuffer(redis.keys.log(jobId), '-', '+')).map(([, fields]) => ({
      offset: Number(fields[7]?.toString()),
      data: fields[11]?.toString('latin1') ?? '',
    }))

  it('is appended together with the record, byte for byte', async () => {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    const bytes = Buffer.from(Array.from({ length: 1024 }, (_, index) => index % 256)).toString('latin1')
    const running = { key: 's', startedAtMs: 1, stdoutOffset: 1024, stderrOffset: 0, timedOut: false }
    await store.append('job', fence, record('job', { running }), [out(0, bytes)])
    expect(await entries('job')).toEqual([{ offset: 0, data: bytes }])
    expect((await store.read('job'))?.record?.running?.stdoutOffset).toBe(1024)
  })

  it('that comes twice is written once: the same call, or the same bytes in another cut', async () => {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    await store.append('job', fence, record('job'), [out(0, 'abc')])
    await store.append('job', fence, record('job'), [out(0, 'abcdef')])
    await store.append('job', fence, record('job'), [out(2, 'cdef'), out(6, 'g')])
    expect((await entries('job')).map(({ data }) => data).join('')).toBe('abcdefg')
    // Another attempt's stream starts at 0 again and is no repetition.
    await store.append('job', fence, record('job'), [out(0, 'abc', { attempt: 2 })])
    expect((await entries('job')).map(({ data }) => data).join('')).toBe('abcdefgabc')
  })

  it('loses and doubles nothing when answers are lost and the connection repeats its commands', async () => {
    const proxy = await startProxy(redis.server.port!)
    const url = new URL(redis.config.url)
    url.port = String(proxy.port)
    const client = createRedis({ url: url.href }, 'commands')
    after(() => client.disconnect())
    const store = new RunStore(client, redis.keys)
    const { fence } = await acquire(store, 'job')
    let expected = ''
    let appends: Promise<unknown>[] = []
    for (let index = 0; index < 60; index++) {
      const [own, system] = [`line ${index}\n`, `note ${index}\n`]
      const lost = index % 6 === 0 ? proxy.loseNextAnswer() : undefined
      appends.push(
        store.append('job', fence, record('job', { usedMs: index }), [
          out(expected.length, own),
          out(0, system, { stream: 'system', step: 'switchyard' }),
        ]),
      )
      expected += own
      await lost
      // Several are under way when the next answer is lost.
      if (index % 6 === 3) {
        await Promise.all(appends)
        appends = []
      }
    }
    await Promise.all(appends)
    const all = await entries('job')
    expect(all.filter(({ data }) => data.startsWith('line')).map(({ data }) => data).join('')).toBe(expected)
    expect(all.filter(({ data }) => data.startsWith('note')).map(({ data }) => data)).toEqual(Array.from({ length: 60 }, (_, index) => `note ${index}\n`))
    const lost = proxy.loseNextAnswer()
    const finished = store.finish('job', fence, record('job'), result('job'), event('job'))
    await lost
    await finished
    expect(await client.xlen(redis.keys.events())).toBe(1)
  })

  it('over the cap keeps the head and the tail of each stream, and nothing grows any more', async () => {
    const half = 32 * 1024
    const store = stored({ logMaxBytesPerStream: 2 * half })
    const { fence } = await acquire(store, 'job')
    const client = redis.connect()
    let offset = 0
    const lengths: number[] = []
    for (let index = 0; index < 300; index++) {
      const data = String(index).padStart(1000, '.')
      await store.append('job', fence, record('job'), [out(offset, data), out(offset, data, { stream: 'stderr' })])
      offset += data.length
      lengths.push(await client.xlen(redis.keys.log('job')))
    }
    const all = await entries('job')
    const kept = all.reduce((sum, { data }) => sum + data.length, 0)
    expect(kept).toBeLessThanOrEqual(2 * 2 * half)
    expect(kept).toBeGreaterThan(2 * (half + half / 2))
    const stdout = all.filter((_, index) => index % 2 === 0)
    expect(stdout[0]).toMatchObject({ offset: 0 })
    expect(all.at(-1)?.data.endsWith('299')).toBe(true)
    expect(Math.max(...lengths.slice(150))).toBe(lengths[150])
  })

  it('of a single piece larger than the cap keeps both ends', async () => {
    const store = stored({ logMaxBytesPerStream: 8 * 1024 })
    const { fence } = await acquire(store, 'job')
    const data = `start${'x'.repeat(1_000_000)}end`
    await store.append('job', fence, record('job'), [out(0, data)])
    const all = await entries('job')
    expect(all[0]?.data.startsWith('start')).toBe(true)
    expect(all.at(-1)?.data.endsWith('end')).toBe(true)
    expect(all.reduce((sum, piece) => sum + piece.data.length, 0)).toBeLessThanOrEqual(8 * 1024)
    for (const piece of all) expect(data.slice(piece.offset, piece.offset + piece.data.length)).toBe(piece.data)
  })
})

describe('a run that goes on from the checkpoint of the one before', () => {
  const checkpoint = { sha: 'c'.repeat(40), stepIndex: 1, headSha: 'b'.repeat(40), commitsAhead: 0, branch: 'checkpoint/job-1.1', atMs: 5, withinStep: false, holdsPaths: false, repositoryPath: null }
  const failed = record('job', { base: { ref: null, sha: 'a'.repeat(40) }, checkpoint, stepIndex: 1, checkpointBranches: [checkpoint.branch], outcome: { status: 'failed', error: null } })
  const branch = { repository: 'acme/web', name: checkpoint.branch }
  const member = JSON.stringify([branch.repository, branch.name])

  async function ended() {
    const store = stored()
    const { fence } = await acquire(store, 'job')
    await store.finish('job', fence, failed, result('job', { status: 'failed' }), event('job'), [{ ...branch, dueAtMs: Date.now() + 1_000 }])
    return store
  }

  it('begins with that, whoever takes it first, and owns the branch', async () => {
    const store = await ended()
    const client = redis.connect()
    expect(await store.requestContinuation('job', { generation: 1, branch, kept: false }, 3_600_000)).toBe('requested')
    expect(Number(await client.zscore(redis.keys.branches(), member))).toBeGreaterThan(Date.now() + 3_000_000)
    const taken = await Promise.all(['b', 'c'].map((holder) => acquire(store, 'job', holder, 2)))
    for (const { record: begun } of taken) expect(begun).toMatchObject({ generation: 2, checkpoint, stepIndex: 1, checkpointBranches: [checkpoint.branch], continues: { generation: 1, confirmed: false } })
    expect(taken.filter(({ created }) => created)).toHaveLength(1)
    expect(await client.zscore(redis.keys.branches(), member)).toBeNull()
    expect(await client.hexists(redis.keys.run('job'), 'continue')).toBe(0)
  })

  it('begins from the start where the wish was withdrawn', async () => {
    const store = await ended()
    await store.requestContinuation('job', { generation: 1, branch, kept: false }, 60_000)
    await store.withdrawContinuation('job')
    expect((await acquire(store, 'job', 'b', 2)).record).toMatchObject({ checkpoint: null, continues: null, stepIndex: 0 })
  })

  it('is the wish of whoever runs it again: what others say once BullMQ was told counts for nothing', async () => {
    const client = redis.connect()
    const store = await ended()
    await client.hset(redis.keys.job('job'), { timestamp: 1, finishedOn: 2 })
    expect(await store.withdrawContinuation('job', true)).toBe('requested')
    expect(await store.requestContinuation('job', { generation: 1, branch, kept: false }, 60_000, true)).toBe('requested')
    await client.hdel(redis.keys.job('job'), 'finishedOn')
    expect(await store.withdrawContinuation('job', true)).toBe('changed')
    expect(await client.hget(redis.keys.run('job'), 'continue')).toBe('1')
    expect(await store.requestContinuation('job', { generation: 1, branch, kept: false }, 60_000, true)).toBe('changed')
  })

  it('begins from the start where the job was removed meanwhile, and another one added under its id', async () => {
    const client = redis.connect()
    await client.hset(redis.keys.job('job'), { timestamp: 1 })
    const store = await ended()
    await store.requestContinuation('job', { generation: 1, branch, kept: false }, 60_000)
    await client.multi().del(redis.keys.job('job')).hset(redis.keys.job('job'), { timestamp: 2, processedOn: 3 }).set(`${redis.keys.job('job')}:lock`, 'token').exec()
    expect(await store.acquire('job', { holder: 'b', fresh: record('job'), stalls: 0, token: 'token' })).toMatchObject({ created: true, record: { generation: 2, checkpoint: null, continues: null } })
    expect(await client.hexists(redis.keys.run('job'), 'continue')).toBe(0)
  })

  it('is not asked for when another run is the last one, or the branch is gone', async () => {
    const store = await ended()
    const client = redis.connect()
    expect(await store.requestContinuation('job', { generation: 2, branch, kept: false }, 60_000)).toBe('changed')
    await client.zrem(redis.keys.branches(), member)
    expect(await store.requestContinuation('job', { generation: 1, branch, kept: false }, 60_000)).toBe('gone')
    expect(await client.hexists(redis.keys.run('job'), 'continue')).toBe(0)
    expect(await store.requestContinuation('job', { generation: 1, branch, kept: true }, 60_000)).toBe('requested')
    expect(await store.requestContinuation('job', { generation: 1, branch: null, kept: false }, 60_000)).toBe('requested')
    await acquire(store, 'job', 'b', 2)
    expect(await store.requestContinuation('job', { generation: 2, branch: null, kept: false }, 60_000)).toBe('changed')
  })
})
