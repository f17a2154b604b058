import { describe, expect, it } from 'vitest'
import { type CompletionEvent, completionEvent, EventGroups, type EventHandler, RetryLaterError, subscribe, type SubscribeOptions } from '../../src/events/index.js'
import { backoffOf } from '../../src/events/subscribe-options.js'
import { RunStore } from '../../src/store/index.js'
import fc from '../seeded-fast-check.js'
import { after, record, result, until, useRedis } from '../store/fixture.js'

const redis = useRedis()

/** Ends runs: each is the job's next one. */
async function endRuns(...jobIds: string[]): Promise<void> {
  const store = new RunStore(redis.client, redis.keys)
  const generations = new Map<string, number>()
  for (const jobId of jobIds) {
    const generation = (generations.get(jobId) ?? 0) + 1
    generations.set(jobId, generation)
    const fresh = record(jobId, { generation })
    const acquired = await store.acquire(jobId, { holder: 'a', fresh })
    if (acquired.kind !== 'acquired') throw new Error('ended')
    await store.finish(jobId, acquired.fence, fresh, result(jobId), completionEvent(result(jobId), { generation }))
  }
}

function listen(handler: EventHandler, options: SubscribeOptions = {}) {
  const errors: unknown[] = []
  const subscription = subscribe(redis.config, 'group', handler, { onError: (error) => errors.push(error), backoffMs: 5, maxBackoffMs: 20, ...options })
  after(() => subscription.close())
  return { subscription, errors }
}

function groups(): EventGroups {
  const client = redis.connect()
  return new EventGroups(redis.keys, (work) => work(client))
}
const state = async () => (await groups().list())[0]

describe('a handler that fails', () => {
  it('is a dead letter in time, and others go on, also when whoever is told of it fails', async () => {
    const seen: string[] = []
    listen(({ subject }) => {
      if (subject === 'bad') throw new Error('no')
      seen.push(subject)
    }, {
      attempts: 3,
      onError: () => {
        throw new Error('the log is full')
      },
      onDead: () => {
        throw new Error('so is the other one')
      },
    })
    await endRuns('bad', 'good')
    await until(async () => (await state())?.deadLetters === 1 && seen.includes('good'), 'the bad one is dead and the good one was handled')
    await endRuns('later')
    await until(() => seen.includes('later'), 'what came after it was handled')
    expect(await state()).toMatchObject({ pending: 0, unread: 0, died: 1 })
  })

  it('is one whatever it throws, at its first attempt, and is found by whatever name its group has', async () => {
    const nameless = 'group \ud800 "a"\n'
    const unspeakable = () => {
      throw new Error('no words')
    }
    // As a promise that is rejected, of whatever library.
    const rejected = (why: unknown) => () => ({ then: (_done: unknown, failed: (why: unknown) => void) => failed(why) })
    const thrown: (() => unknown)[] = [
      rejected(undefined),
      rejected(Symbol('s')),
      rejected(1n),
      rejected(Object.create(null)),
      rejected({ toString: unspeakable }),
      rejected(Object.defineProperty(new Error(), 'message', { get: unspeakable })),
      rejected(Object.assign(new Error(), { message: 7 })),
      rejected(new Proxy({}, { get: unspeakable })),
      () => ({ get then() { throw new Error('then') } }),
    ]
    const jobs = thrown.map((_throws, index) => `job-${index}`)
    const errors: unknown[] = []
    // Nobody else would take one that is not said to have failed.
    const subscription = subscribe(redis.config, nameless, ({ subject }) => thrown[jobs.indexOf(subject)]?.() as Promise<void>, { attempts: 1, redeliverAfterMs: 3_600_000, onError: (error) => errors.push(error) })
    after(() => subscription.close())
    await endRuns(...jobs)
    await until(async () => (await state())?.deadLetters === jobs.length, 'all are dead')
    expect(errors).toHaveLength(jobs.length)
    expect((await groups().dead({ group: nameless })).map(({ error }) => error).toSorted()).toEqual(['1', '7', 'Symbol(s)', 'then', 'undefined', ...Array.from({ length: 4 }, () => 'what was thrown can’t be put into words')])
    expect(await groups().redeliver({ group: nameless, ids: 'all' })).toBe(jobs.length)
  })

  it('waits no longer than events are kept, where it wants to be asked again at no time that there is', async () => {
    const times = [NaN, -Infinity, Infinity]
    let calls = 0
    listen(() => {
      throw new RetryLaterError('later', times[calls++] ?? 0)
    })
    await endRuns('job')
    await until(() => calls === 3, 'it was tried three times')
    const client = redis.client
    const due = redis.keys.eventGroup('group')[1]!
    await until(async () => Number((await client.zrange(due, '0', '0', 'WITHSCORES'))[1]) > Date.now() + 6 * 86_400_000, 'it waits')
    expect(Number((await client.zrange(due, '0', '0', 'WITHSCORES'))[1])).toBeLessThan(Date.now() + 8 * 86_400_000)
  })

  it('holds up no other job, however many fail and however slowly, also with one at a time', async () => {
    const bad = Array.from({ length: 12 }, (_value, index) => `bad${index}`)
    const good = Array.from({ length: 40 }, (_value, index) => `good${index}`)
    for (const concurrency of [1, 4]) {
      await redis.client.flushall()
      let release: () => void = () => undefined
      const hanging = new Promise<void>((resolve) => (release = resolve))
      const seen: string[] = []
      const tries = new Map<string, number>()
      const { subscription } = listen(
        async ({ subject }) => {
          if (subject.startsWith('good')) return void seen.push(subject)
          const count = (tries.get(subject) ?? 0) + 1
          tries.set(subject, count)
          // From the second try on it hangs, as far as there is room for such.
          if (count > 1 && concurrency > 1) await hanging
          throw new Error('no')
        },
        { concurrency, attempts: 1_000 },
      )
      await endRuns(...bad, ...good)
      await until(() => seen.length === good.length, `all others were handled, ${concurrency} at a time`)
      expect([...seen].sort()).toEqual([...good].sort())
      release()
      await subscription.close()
      expect(await state()).toMatchObject({ pending: bad.length, unread: 0 })
    }
  })

  it('holds up what comes after it of its own job', async () => {
    await endRuns('a', 'a', 'b', 'a')
    const seen: string[] = []
    let failures = 0
    listen(({ id }) => {
      if (id === 'a.1' && failures++ < 3) throw new Error('not yet')
      seen.push(id)
    })
    await until(() => seen.length === 4, 'all came')
    expect(seen[0]).toBe('b.1')
    expect(seen.slice(1)).toEqual(['a.1', 'a.2', 'a.3'])
    await until(async () => (await state())?.pending === 0, 'nothing is left')
    expect(await leftOver()).toEqual(['dead: 0', 'due: 0', 'next: 0', 'state: 0', 'tail: 0', 'body: 0'].sort())
  })

  it('waits longer each time, up to a bound', () => {
    const options = { backoffMs: 1_000, maxBackoffMs: 300_000 }
    expect([1, 2, 3, 9, 10, 500].map((attempt) => backoffOf(attempt, options))).toEqual([1_000, 2_000, 4_000, 256_000, 300_000, 300_000])
  })

  it('fails when it does not end', async () => {
    await endRuns('a')
    const { errors } = listen(() => new Promise(() => undefined), { handlerTimeoutMs: 20, attempts: 2 })
    await until(async () => (await state())?.deadLetters === 1, 'it is given up')
    expect(String(errors[0])).toContain('has not ended within 20 ms')
  })
})

describe('dead events', () => {
  it('are listed with their last error, and come again with all their attempts when they are given back', async () => {
    await endRuns('a', 'b', 'a')
    let broken = true
    const seen: CompletionEvent[] = []
    const dead: unknown[] = []
    let tries = 0
    listen(
      (event) => {
        if (event.id === 'a.1' && broken) throw new Error(`failure ${++tries}`)
        seen.push(event)
      },
      { attempts: 3, onDead: (event, error) => dead.push([event?.id, String(error)]) },
    )
    await until(() => dead.length === 1, 'it is given up')
    expect(dead).toEqual([['a.1', 'Error: failure 3']])
    await until(() => seen.length === 2, 'the next of its job came')
    const listed = await groups().dead({ group: 'group' })
    expect(listed).toMatchObject([{ event: { id: 'a.1', subject: 'a', data: { jobId: 'a' } }, attempts: 3, error: 'failure 3' }])
    expect(await groups().dead({ group: 'group', after: listed[0]!.id })).toEqual([])
    expect(await state()).toMatchObject({ pending: 0, deadLetters: 1, died: 1, dropped: 0 })
    expect(await groups().redeliver({ group: 'group', ids: 'all' })).toBe(1)
    await until(() => dead.length === 2, 'it failed three times more')
    expect(tries).toBe(6)
    broken = false
    // The stream may have been trimmed meanwhile: a dead letter holds the event itself.
    await redis.client.xtrim(redis.keys.events(), 'MAXLEN', 0)
    const [again] = await groups().dead({ group: 'group' })
    expect(await groups().redeliver({ group: 'group', ids: [again!.id, '1-1'] })).toBe(1)
    await until(() => seen.length === 3, 'it was handled')
    expect(seen[2]).toMatchObject({ id: 'a.1', data: { jobId: 'a' } })
    await until(async () => (await state())?.pending === 0, 'nothing is left')
    expect(await leftOver()).toEqual(['dead: 0', 'due: 0', 'next: 0', 'state: 0', 'tail: 0', 'body: 0'].sort())
  })

  it('are bounded by number and by bytes, and what went is counted', async () => {
    await endRuns(...Array.from({ length: 9 }, (_value, index) => `job${index}`))
    listen(() => Promise.reject(new Error('no')), { attempts: 1, maxDeadLetters: 4 })
    await until(async () => (await state())?.died === 9, 'all are given up')
    expect(await state()).toMatchObject({ deadLetters: 4, dropped: 5 })
    const kept = await groups().dead({ group: 'group' })
    const bytes = Number(await redis.client.hget(redis.keys.eventGroup('group')[0]!, 'deadBytes'))
    const flat = (await redis.client.xrange(redis.keys.eventGroup('group').at(-1)!, '-', '+')).flatMap(([, fields]) => fields)
    expect(bytes).toBe(Buffer.byteLength(flat.join('')))
    listen(() => Promise.reject(new Error('no')), { attempts: 1, maxDeadLetters: 4, maxDeadLetterBytes: Math.ceil(bytes / 2) })
    await groups().redeliver({ group: 'group', ids: kept.map(({ id }) => id) })
    await endRuns('one', 'more')
    await until(async () => ((await state())?.died ?? 0) === 15, 'all died again')
    expect((await state())?.deadLetters).toBeLessThanOrEqual(4)
  })

  it('are of a group that is there', async () => {
    await endRuns('a')
    await expect(groups().dead({ group: 'other' })).rejects.toThrow('nobody has subscribed as "other"')
    await expect(groups().redeliver({ group: 'group', ids: ['x'] })).rejects.toThrow('ids: must be ids of dead events')
    await expect(groups().dead({ group: 'group', limit: 0 })).rejects.toThrow('limit: must be')
    await redis.client.flushall()
    expect(await groups().list()).toEqual([])
  })
})

describe('options', () => {
  it.each(
    (['concurrency', 'redeliverAfterMs', 'attempts', 'backoffMs', 'maxBackoffMs', 'handlerTimeoutMs', 'maxDeadLetters', 'maxDeadLetterBytes'] as const).flatMap((field) =>
      [0, -5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5'].map((value) => [field, value] as const),
    ),
  )('%s: %s is refused before anything is opened', (field, value) => {
    expect(() => subscribe(redis.config, 'group', () => undefined, { [field]: value })).toThrow(new RegExp(`^${field}: must be`))
  })

  it('are refused when they are not known, or of another kind', () => {
    expect(() => subscribe(redis.config, 'group', () => undefined, { concurency: 3 } as SubscribeOptions)).toThrow('concurency: is not a known field')
    expect(() => subscribe(redis.config, 'group', () => undefined, { from: 'end' } as unknown as SubscribeOptions)).toThrow('from: must be "start", "now", { after')
    expect(() => subscribe(redis.config, 'x'.repeat(201), () => undefined)).toThrow('group: is longer')
    expect(() => subscribe(redis.config, 'group', () => undefined, { onError: 1 } as unknown as SubscribeOptions)).toThrow('onError: must be a function')
  })
})

it('hands each event over until it is handled or dead, in the order of its job, whatever fails', { timeout: 300_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ job: fc.constantFrom('a', 'b', 'c', 'd'), failures: fc.integer({ min: 0, max: 4 }) }), { minLength: 1, maxLength: 15 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 3 }),
      async (ends, concurrency, readers) => {
        await redis.client.flushall()
        const attempts = 3
        const count = new Map<string, number>()
        const plan = new Map(ends.map(({ job, failures }) => {
          const generation = (count.get(job) ?? 0) + 1
          count.set(job, generation)
          return [`${job}.${generation}`, failures]
        }))
        const done: string[] = []
        const tries: string[] = []
        const dead: string[] = []
        const under = new Set<string>()
        const open = Array.from({ length: readers }, () =>
          listen(async ({ id, subject }) => {
            if (under.has(subject)) throw new Error('two of a job at once')
            under.add(subject)
            tries.push(id)
            await new Promise((resolve) => setImmediate(resolve))
            under.delete(subject)
            const left = plan.get(id) ?? 0
            plan.set(id, left - 1)
            if (left > 0) throw new Error('planned')
            done.push(id)
          }, { concurrency, attempts, backoffMs: 1, maxBackoffMs: 2, onDead: (event) => dead.push(event?.id ?? '') }))
        await endRuns(...ends.map(({ job }) => job))
        await until(() => done.length + dead.length === ends.length, 'all are handled or dead')
        await Promise.all(open.map(({ subscription }) => subscription.close()))
        expect(open.flatMap(({ errors }) => errors).map(String).filter((error) => !error.includes('planned'))).toEqual([])
        const order = (id: string) => Number(id.split('.')[1])
        for (const job of count.keys()) {
          const own = tries.filter((id) => id.startsWith(`${job}.`)).map(order)
          expect(own).toEqual(own.toSorted((one, other) => one - other))
        }
        expect(new Set(done).size + new Set(dead).size).toBe(ends.length)
        expect((await state())?.deadLetters).toBe(dead.length)
        expect(await leftOver()).toContain('tail: 0')
      },
    ),
    { numRuns: 12 },
  )
})

/** How much each of the group's keys holds besides its account. */
async function leftOver(): Promise<string[]> {
  const client = redis.connect()
  const [, due = '', entries = '', next = '', tail = '', body = '', dead = ''] = redis.keys.eventGroup('group')
  return [
    `due: ${await client.zcard(due)}`, `state: ${await client.hlen(entries)}`, `next: ${await client.hlen(next)}`,
    `tail: ${await client.hlen(tail)}`, `body: ${await client.hlen(body)}`, `dead: ${await client.xlen(dead)}`,
  ].sort()
}
