import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { jobIdOf, runIdOf } from '../../src/job/names.js'
import { newJobId } from '../../src/producers/idempotency.js'
import { scheduledJobId } from '../../src/producers/scheduled-runs.js'
import fc from '../seeded-fast-check.js'
import { useRedis } from './fixture.js'

const redis = useRedis()
const lua = new URL('../../src/store/lua/', import.meta.url)

const queue = fc.oneof(fc.constantFrom('agents', 'a', 'repeat', 'run', '4711'), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((name) => !name.includes(':')))
// Of jobs that BullMQ numbers, that its job schedulers make, that are called something by hand, and of our own.
const handMade = fc.oneof(fc.nat().map(String), fc.tuple(fc.string({ minLength: 1 }), fc.nat()).map(([id, ms]) => `repeat:${id.replaceAll(':', '')}:${ms}`), fc.string({ unit: 'binary', minLength: 1 }).filter((id) => !id.includes(':')))
const id = fc.oneof(handMade, queue.map((name) => newJobId(name, 'key')), fc.constant(0).map(() => newJobId('a', undefined)), fc.tuple(queue, fc.nat()).map(([name, ms]) => scheduledJobId(name, 'nightly', ms)))

it('no two jobs of a deployment have the same id among all queues, and each queue knows its own again', () => {
  fc.assert(
    fc.property(queue, handMade, queue, handMade, (oneQueue, one, otherQueue, other) => {
      if (oneQueue !== otherQueue || one !== other) expect(runIdOf(oneQueue, one)).not.toBe(runIdOf(otherQueue, other))
      expect(jobIdOf(oneQueue, runIdOf(oneQueue, one))).toBe(one)
      // At most under an id that BullMQ refuses: all but those of its schedulers are without ":", and these have two.
      if (oneQueue !== otherQueue) expect([1, 3]).toContain((jobIdOf(otherQueue, runIdOf(oneQueue, one))?.split(':').length ?? 2) - 1)
    }),
    { numRuns: 500 },
  )
})

it('of jobs that were enqueued with AgentQueue it is the job’s own', () => {
  for (const jobId of [newJobId('a', undefined), newJobId('a', 'key'), scheduledJobId('a', 'nightly', Date.UTC(2026, 10, 28, 3))]) expect(runIdOf('a', jobId)).toBe(jobId)
  expect(runIdOf('a', '1')).toBe('a:1')
  expect(runIdOf('agents', '1')).toBe('1')
})

it('Redis’ scripts have the same', async () => {
  const rules = await Promise.all(['ledger.lua', 'ready.lua'].map((file) => readFile(new URL(file, lua), 'utf8')))
  const client = redis.connect()
  client.defineCommand('ids', { lua: [...rules, 'local id = ids.run(ARGV[3], ARGV[4])', 'return { id, ids.job(ARGV[3], id) or false, ids.job(ARGV[5], id) or false }'].join('\n') })
  const ids = (...args: string[]) => (client as unknown as { ids(...args: (string | number)[]): Promise<unknown> }).ids(3, redis.keys.ledger(), redis.keys.ready(), redis.keys.idle(), redis.keys.inbox(''), '1', ...args)
  await fc.assert(
    fc.asyncProperty(queue, id, queue, async (name, jobId, other) => {
      const runId = runIdOf(name, jobId)
      expect(await ids(name, jobId, other)).toEqual([runId, jobIdOf(name, runId), jobIdOf(other, runId)])
    }),
    { numRuns: 500 },
  )
})
