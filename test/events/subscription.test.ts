import { fork } from 'node:child_process'
import { once } from 'node:events'
import { CloudEvent } from 'cloudevents'
import { describe, expect, it } from 'vitest'
import { type CompletionEvent, completionEvent, type EventHandler, parseCompletionEvent, subscribe, type SubscribeOptions } from '../../src/events/index.js'
import { InvalidInputError } from '../../src/job/errors.js'
import { eventGroups, RunStore } from '../../src/store/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { after, record, result, until, useRedis } from '../store/fixture.js'

const redis = useRedis()

async function finishJobs(...jobIds: string[]): Promise<void> {
  const store = new RunStore(redis.client, redis.keys)
  for (const jobId of jobIds) {
    const acquired = await store.acquire(jobId, { holder: 'a', fresh: record(jobId) })
    if (acquired.kind !== 'acquired') throw new Error('ended')
    await store.finish(jobId, acquired.fence, record(jobId), result(jobId), completionEvent(result(jobId)))
  }
}

function listen(group: string, handler: EventHandler, options: SubscribeOptions = {}) {
  const errors: unknown[] = []
  const subscription = subscribe(redis.config, group, handler, { onError: (error) => errors.push(error), ...options })
  after(() => subscription.close())
  return { subscription, errors }
}

const pendingOf = async (group: string) => {
  return (await eventGroups(redis.client, redis.keys)).find((state) => state.group === group)?.pending
}

describe('a completion event', () => {
  it('is a CloudEvent whose id is the same however often the end of a run is told', () => {
    const first = completionEvent(result('job', { status: 'failed' }), { generation: 2, source: '/switchyard/production', now: () => 0 })
    expect(first).toMatchObject({
      specversion: '1.0',
      id: 'job.2',
      type: 'dev.switchyard.job.failed',
      source: '/switchyard/production',
      subject: 'job',
      time: '1970-01-01T00:00:00.000Z',
      data: { jobId: 'job' },
    })
    expect(completionEvent(result('job', { status: 'failed' }), { generation: 2 }).id).toBe(first.id)
    expect(new CloudEvent(first).validate()).toBe(true)
    expect(parseCompletionEvent(JSON.parse(JSON.stringify(first)))).toEqual(first)
    expect(() => parseCompletionEvent({ ...first, type: 'other' })).toThrow(InvalidInputError)
  })
})

describe('a subscription', () => {
  it('gives every event to every group, and to one reader of each', async () => {
    await finishJobs('1', '2')
    const seen = { a: [] as string[], b: [] as string[] }
    listen('group-a', (event) => void seen.a.push(event.subject))
    listen('group-a', (event) => void seen.a.push(event.subject))
    listen('group-b', (event) => void seen.b.push(event.subject))
    await until(() => seen.a.length === 2 && seen.b.length === 2, 'both groups have both')
    await finishJobs('3', '4', '5')
    await until(() => seen.a.length === 5 && seen.b.length === 5, 'both groups have all')
    expect(seen.a.sort()).toEqual(['1', '2', '3', '4', '5'])
    expect(seen.b.sort()).toEqual(['1', '2', '3', '4', '5'])
    await until(async () => (await pendingOf('group-a')) === 0, 'all are acknowledged')
  })

  it('goes on where its group stopped, and from now on if so asked', async () => {
    const seen: string[] = []
    await finishJobs('1')
    const first = listen('group', (event) => void seen.push(event.subject))
    await until(() => seen.length === 1, 'the first came')
    await first.subscription.close()
    await finishJobs('2')
    const late: string[] = []
    listen('late', (event) => void late.push(event.subject), { from: 'now' })
    await until(async () => (await redis.client.xinfo('GROUPS', redis.keys.events()) as unknown[]).length === 2, 'the late group is there')
    listen('group', (event) => void seen.push(event.subject))
    await until(() => seen.length === 2, 'the second came')
    await finishJobs('3')
    await until(() => late.length === 1 && seen.length === 3, 'the third came')
    expect([seen, late]).toEqual([['1', '2', '3'], ['3']])
  })

  it('gives an event again when its handler failed, and says so', async () => {
    await finishJobs('1')
    let calls = 0
    const { errors } = listen(
      'group',
      () => {
        calls++
        if (calls < 3) throw new Error(`failure ${calls}`)
      },
      { backoffMs: 10 },
    )
    await until(() => calls === 3, 'the third try')
    await until(async () => (await pendingOf('group')) === 0, 'it is acknowledged')
    expect(errors.map(String)).toEqual(['Error: failure 1', 'Error: failure 2'])
  })

  it('does not give an event to another reader while a slow handler has it', async () => {
    await finishJobs('1')
    const seen: string[] = []
    let release: () => void = () => undefined
    const slow = new Promise<void>((resolve) => (release = resolve))
    let beats = 0
    listen('group', async (event) => {
      seen.push(`slow ${event.subject}`)
      await slow
    }, { redeliverAfterMs: 1_000 })
    await until(() => seen.length === 1, 'the slow one has it')
    listen('group', (event) => void seen.push(`other ${event.subject}`), { redeliverAfterMs: 1_000 })
    // Three times the lease, seen by how often it was put off in Redis.
    let due = ''
    const client = redis.connect()
    await until(async () => {
      const [, at = ''] = await client.zrange(redis.keys.eventGroup('group')[1]!, '0', '0', 'WITHSCORES')
      if (at !== due) beats++
      due = at
      return beats >= 9
    }, 'the entry was kept in hand nine times')
    expect(seen).toEqual(['slow 1'])
    release()
    await until(async () => (await pendingOf('group')) === 0, 'it is acknowledged')
  })

  it('gives what a killed process had read and not acknowledged to another one', async () => {
    await finishJobs('1', '2', '3')
    const child = fork(ownFile('test/events/reader.ts'), [redis.config.url, 'group'], { execArgv: [...loaderArgs] })
    after(() => child.kill('SIGKILL'))
    const [subject] = (await once(child, 'message')) as [string]
    expect(subject).toBe('1')
    expect(await pendingOf('group')).toBeGreaterThan(0)
    child.kill('SIGKILL')
    await once(child, 'exit')
    const seen: string[] = []
    listen('group', (event: CompletionEvent) => void seen.push(event.subject), { redeliverAfterMs: 1_000 })
    await until(() => seen.length === 3, 'all came')
    expect(seen.sort()).toEqual(['1', '2', '3'])
  })

  it('goes on after Redis was restarted without its data', async () => {
    const seen: string[] = []
    const { errors } = listen('group', (event) => void seen.push(event.subject))
    await finishJobs('1')
    await until(() => seen.length === 1, 'the first came')
    await redis.server.restart()
    await finishJobs('2')
    await until(() => seen.length === 2, 'the second came')
    expect(seen).toEqual(['1', '2'])
    expect(errors.filter((error) => !/NOGROUP|ECONN|Connection/.test(String(error)))).toEqual([])
  })

  it.each(['now', 'start'] as const)('misses nothing that ended before it noticed that Redis has lost its data, or its group: from %s', async (from) => {
    await finishJobs('0')
    const seen: string[] = []
    listen('group', (event) => void seen.push(event.subject), { from })
    await until(async () => (await pendingOf('group')) === 0, 'it is there')
    await finishJobs('1')
    await until(() => seen.includes('1'), 'the first came')
    await until(async () => (await pendingOf('group')) === 0, 'it is done')
    // In one step, so that the reader finds the group gone and the next event there.
    await redis.client.flushall()
    await finishJobs('2')
    await until(() => seen.includes('2'), 'the second came')
    await redis.client.xgroup('DESTROY', redis.keys.events(), 'group')
    await finishJobs('3')
    await until(() => seen.includes('3'), 'the third came')
    expect(seen).toEqual(from === 'now' ? ['1', '2', '3'] : ['0', '1', '2', '3'])
  })

  it.each([
    ['an event that Redis has lost with its data, whose clock is behind since', { after: `${Date.now() + 3_600_000}-0` }, ['1', '2']],
    ['a time that is yet to come', { sinceMs: Date.now() + 3_600_000 }, ['2']],
    ['an event that was lost in a failover', { after: `${Date.now() + 30_000}-0` }, ['2']],
  ])('begins with what there is behind %s', async (_what, from, expected) => {
    await finishJobs('1')
    const seen: string[] = []
    listen('group', (event) => void seen.push(event.subject), { from })
    await until(async () => (await pendingOf('group')) !== undefined, 'it is there')
    await finishJobs('2')
    await until(() => seen.includes('2'), 'the second came')
    expect(seen).toEqual(expected)
  })

  it('reports an entry that is no event, and leaves it for others', async () => {
    const client = redis.connect()
    await client.xadd(redis.keys.events(), '*', 'id', 'x', 'event', '{"specversion":"1.0"}')
    const { errors } = listen('group', () => undefined)
    await until(() => errors.length > 0, 'it is reported')
    expect(String(errors[0])).toContain('InvalidInputError')
    expect(await pendingOf('group')).toBe(1)
  })

  it('closes with Redis there, and while it is away', async () => {
    const first = listen('group', () => undefined)
    await until(async () => (await redis.client.exists(redis.keys.events())) === 1, 'the group is there')
    await first.subscription.close()
    const second = listen('group', () => undefined)
    await redis.server.kill()
    await second.subscription.close()
    await redis.server.restart()
  })

  it('needs the name of a group', () => {
    expect(() => subscribe(redis.config, '', () => undefined)).toThrow('group: is empty')
  })
})

