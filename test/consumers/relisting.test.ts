import { pino } from 'pino'
import { expect, it } from 'vitest'
import { parseJobSpec } from '../../src/job/spec.js'
import { Relisting } from '../../src/consumers/intake/relisting.js'
import { Keys, ReadyJobs, Signals, WaitDeadlines } from '../../src/store/index.js'
import { after, until, useRedis } from '../store/fixture.js'

const redis = useRedis()

/** What one consumer of a queue does to hold the index against BullMQ, and how often it did so as the one whose turn it is. */
async function consumer(holder: string, queue = redis.keys.queueName) {
  const keys = new Keys(redis.keys.prefix, queue)
  const ready = new ReadyJobs(redis.connect(), keys)
  const seen = { own: 0 }
  const relisting = new Relisting({
    ready: {
      add: async (...given) => await ready.add(...given),
      front: async (...given) => await ready.front(...given),
      tidy: async () => await ready.tidy(),
      yieldTurn: async (who) => await ready.yieldTurn(who),
      reconcile: async (...given) => {
        const found = await ready.reconcile(...given)
        if (found.othersForMs === 0) seen.own++
        return found
      },
    },
    waits: new WaitDeadlines(redis.connect(), keys),
    holder,
    log: pino({ level: 'silent' }),
    // It stands still: nobody's turn lapses, and nobody looks again by itself.
    now: () => 1_000,
    everyMs: 60_000,
    readJobs: () => Promise.resolve([]),
    onGone: () => Promise.resolve(),
    onEnds: () => Promise.resolve(),
    onPauseOver: () => Promise.resolve(),
  })
  const signals = new Signals(redis.connect('subscriber'), keys)
  after(() => signals.close())
  const heard = { turns: 0 }
  await signals.onTurnFree(() => {
    heard.turns++
    relisting.turnIsFree()
  })
  return { relisting, ready, seen, heard }
}

it('a consumer that stops gives up its turn, and the next one has it with its next look', async () => {
  const [a, b, elsewhere] = [await consumer('a'), await consumer('b'), await consumer('c', 'other')]
  for (const each of [a, b, elsewhere]) await each.relisting.run()
  expect([a.seen.own, b.seen.own, elsewhere.seen.own]).toEqual([1, 0, 1])
  // It is not another's to give up.
  await b.relisting.stop()
  await b.relisting.run()
  expect([b.heard.turns, b.seen.own, (await b.ready.reconcile('b', 60_000)).othersForMs > 0]).toEqual([0, 0, true])
  await a.relisting.stop()
  await until(() => b.heard.turns === 1, 'it is told')
  await b.relisting.run()
  expect([b.seen.own, elsewhere.heard.turns]).toEqual([1, 0])
  // It has it now, and whoever stops a second time takes nothing away.
  await a.relisting.stop()
  expect((await a.ready.reconcile('a', 60_000)).othersForMs).toBeGreaterThan(0)
})

it('takes what is left of a drained queue apart, which no look does', async () => {
  const client = redis.connect()
  const { relisting, ready } = await consumer('a')
  const { keys } = redis
  const jobs = Array.from({ length: 300 }, (_, index) => ({ jobId: `job-${index}`, spec: parseJobSpec({ repository: 'acme/web', steps: ['true'], tenant: `tenant-${index}` }) }))
  const pipeline = client.pipeline()
  jobs.forEach(({ jobId }, index) => pipeline.hset(keys.job(jobId), 'name', 'job').zadd(keys.bullmq('prioritized'), index, jobId))
  await pipeline.exec()
  await ready.add(jobs)
  await client.del(keys.bullmq('prioritized'), ...jobs.map(({ jobId }) => keys.job(jobId)))
  const left = async () => (await client.keys(`${keys.ready()}:q:${keys.queueName}:1:*`)).length
  expect(await left()).toBeGreaterThan(300)
  await relisting.run()
  expect(await left()).toBe(0)
})
