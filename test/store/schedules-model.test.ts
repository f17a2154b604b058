import { expect, it } from 'vitest'
import type { Overlap } from '../../src/job/schedule.js'
import { ScheduleStore, type PendingRun, type StoredSchedule } from '../../src/store/index.js'
import fc from '../seeded-fast-check.js'
import { useRedis } from './fixture.js'

const redis = useRedis()
const minute = 60_000
/** Long from now: a schedule that is resumed is due now, which is then before all of its times. */
const base = Math.floor(3_000_000_000_000 / minute) * minute
const readers = 3

/** What several consumers, producers and clocks do to one schedule, in any order; a reader acts on what it read, however long ago that was. */
type Step =
  | { readonly what: 'read' | 'add'; readonly reader: number }
  | { readonly what: 'begin'; readonly reader: number; readonly ahead: number; readonly pass: boolean }
  | { readonly what: 'set back'; readonly by: number }
  | { readonly what: 'end' | 'pause' | 'resume' | 'put' | 'remove' }

const reader = fc.nat(readers - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constant('read' as const), reader }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('begin' as const), reader, ahead: fc.integer({ min: 1, max: 3 }), pass: fc.integer({ min: 0, max: 4 }).map((n) => n === 0) }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('add' as const), reader }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('set back' as const), by: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constantFrom('end' as const, 'resume' as const) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('pause' as const, 'put' as const, 'remove' as const) }) },
)

/** A reader that is not interrupted, among others. */
const visit = fc.record({ reader, ahead: fc.integer({ min: 1, max: 3 }), pass: fc.integer({ min: 0, max: 4 }).map((n) => n === 0), adds: fc.integer({ min: 0, max: 4 }).map((n) => n > 0) })
  .map(({ reader: by, ahead, pass, adds }): Step[] => [{ what: 'read', reader: by }, { what: 'begin', reader: by, ahead, pass }, ...(adds ? [{ what: 'add', reader: by } as const] : [])])
const course = fc.array(fc.oneof({ weight: 2, arbitrary: visit }, { weight: 3, arbitrary: step.map((one): Step[] => [one]) }), { minLength: 10, maxLength: 50 }).map((parts) => parts.flat())

it('whatever consumers, producers and clocks do: no time is begun twice, none beside another where that is not allowed, none while paused, and a decided one is never lost', { timeout: 120_000 }, async () => {
  const client = redis.connect()
  await fc.assert(
    fc.asyncProperty(fc.constantFrom<Overlap>('skip', 'replace', 'allow'), course, async (overlap, steps) => {
      await client.flushall()
      const store = new ScheduleStore(client, redis.keys)
      const put = async (nowMs = base) => await store.put('s', { definition: '{}', times: 'each minute', nowMs, nextMs: nowMs + minute })
      await put()
      const read: (StoredSchedule | undefined)[] = []
      const found: (PendingRun | undefined)[] = []
      const begun = new Map<number, string>()
      const alive = new Set<string>()
      let paused = false
      let decided: string | undefined
      let decidedMs = 0
      let handledMs = base
      for (const each of steps) {
        switch (each.what) {
          case 'read':
            read[each.reader] = (await store.read('s')).schedule ?? undefined
            found[each.reader] = read[each.reader]?.pending ?? undefined
            break
          case 'begin': {
            const seen = read[each.reader]
            if (seen === undefined) break
            const slotMs = seen.handledMs + each.ahead * minute
            const due = each.pass ? ({ kind: 'pass', slotMs, count: each.ahead, why: 'missed' } as const) : ({ kind: 'run', slotMs } as const)
            const answer = await store.begin(seen, due, { jobId: `job-${slotMs}`, nextMs: slotMs + minute, overlap })
            if (answer.kind === 'run' || answer.kind === 'pending') found[each.reader] = answer.run
            if (answer.kind === 'pending') expect(answer.run.jobId).toBe(decided)
            if (answer.kind !== 'run') break
            expect(paused).toBe(false)
            expect(decided).toBeUndefined()
            expect(begun.has(slotMs)).toBe(false)
            if (overlap === 'skip') expect([...alive]).toEqual([])
            expect(new Set(answer.run.replaces)).toEqual(overlap === 'replace' ? alive : new Set())
            begun.set(slotMs, answer.run.jobId)
            decided = answer.run.jobId
            decidedMs = slotMs
            // It counts as there from now on, whoever adds it.
            alive.add(answer.run.jobId)
            break
          }
          case 'add': {
            const run = found[each.reader]
            if (run === undefined) break
            // Adding twice adds nothing, unless the first had ended: BullMQ and the run record know that, so here nobody ends what is not settled.
            if (run.jobId === decided) await client.hset(redis.keys.job(run.jobId), { timestamp: 1, atm: 0 })
            await store.settle((await store.read('s')).schedule!, run, base + 100 * minute)
            if (run.jobId === decided) decided = undefined
            break
          }
          case 'end': {
            const [first] = [...alive].filter((jobId) => jobId !== decided)
            if (first === undefined) break
            await client.hset(redis.keys.job(first), { finishedOn: 5 })
            alive.delete(first)
            break
          }
          case 'set back': {
            const seen = (await store.read('s')).schedule!
            await store.begin(seen, { kind: 'reset', slotMs: seen.handledMs - each.by * minute }, { jobId: '', nextMs: null, overlap })
            handledMs = 0
            break
          }
          case 'pause':
            paused = await store.pause('s')
            break
          case 'resume':
            paused = !(await store.resume('s'))
            break
          case 'put':
            await put()
            break
          case 'remove':
            // What was decided is added by whoever decided it, or never was one.
            if (decided !== undefined) break
            await store.remove('s')
            paused = false
            // Time goes on meanwhile, by more than it is ever set back: of a time that comes again only its job says that it was begun.
            await put(Math.max(base, ...begun.keys()) + 1_000 * minute)
            handledMs = 0
            break
        }
        const { schedule } = await store.read('s')
        expect(schedule?.pending?.jobId).toBe(decided)
        // What is decided and not there is due, for whoever comes next.
        if (decided !== undefined) expect(schedule?.dueMs).toBeLessThanOrEqual(decidedMs)
        expect(schedule?.handledMs).toBeGreaterThanOrEqual(handledMs)
        handledMs = schedule?.handledMs ?? 0
      }
    }),
    { numRuns: 40 },
  )
})
