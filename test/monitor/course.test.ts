import { expect, it } from 'vitest'
import type { JobView } from '../../src/job/fleet.js'
import type { Milestone } from '../../src/job/run-record.js'
import type { JobStatus } from '../../src/job/status.js'
import { courseOf } from '../../src/monitor/pages/course.js'
import fc from '../seeded-fast-check.js'

const t0 = 1_767_225_600_000
const at = (ms: number) => new Date(t0 + ms).toISOString()
type Attempts = JobView['attempts']
function view(times: { readonly enqueued: number; readonly started: number | null; readonly ended: number | null; readonly now: number }, milestones: readonly Milestone[], attempts: Attempts = []): Parameters<typeof courseOf>[0] {
  const status = { enqueuedAtMs: t0 + times.enqueued, startedAtMs: times.started === null ? null : t0 + times.started, endedAtMs: times.ended === null ? null : t0 + times.ended, reason: null, result: times.ended === null ? null : {} } as unknown as JobStatus
  return { status, milestones, attempts, atMs: t0 + times.now }
}
const attempt = (provider: string, from: number, until: number | null, outcome: Attempts[number]['outcome']): Attempts[number] => ({ provider, sandboxId: 's', startedAt: at(from), endedAt: until === null ? null : at(until), outcome, error: null })

it('draws a move: two sandboxes side by side, the step in both, its checkpoints, and a wait in the queue that is never most of it', () => {
  const { bars, marks, rows, summary } = courseOf(
    view({ enqueued: -3_600_000, started: 0, ended: 100_000, now: 200_000 }, [['step', 0, 40_000, 'agent', null], ['saved', 10_000, 30_000, 'abc', 3], ['wait', 40_000, 50_000, 'e2b full (2/2)', null], ['step', 50_000, 100_000, 'agent', 0]], [attempt('e2b', 0, 40_000, 'lost'), attempt('modal', 50_000, 100_000, 'succeeded')]),
  )
  expect(bars.map(({ lane, tone, from, width, label }) => [lane, tone, from, Math.round(width), label])).toEqual([
    ['waits', 'wait', 0, 20, 'in the queue 1 h 00 m'],
    ['steps', 'plain', 20, 32, 'agent, stopped before its end'],
    ['sandboxes', 'bad', 20, 32, '1. e2b, lost'],
    ['waits', 'wait', 52, 8, 'e2b full (2/2)'],
    ['steps', 'good', 60, 40, 'agent'],
    ['sandboxes', 'good', 60, 40, '2. modal, succeeded'],
  ])
  expect(marks).toEqual([{ kind: 'saved', at: 44, label: '3 checkpoints, the last abc' }])
  expect(rows[0]).toEqual({ at: '−1 h 00 m', what: 'wait', detail: 'in the queue', took: '1 h 00 m', outcome: '' })
  expect(summary).toBe('Waited 1 h 00 m in the queue, ran 1 m 40 s; 2 sandboxes, 2 steps, 1 row of checkpoints, 0 hand-overs.')
})

it('keeps everything within the picture, whatever the clocks and the entries say', () => {
  const number = fc.integer({ min: -1e9, max: 1e9 })
  const milestone = fc.tuple(fc.constantFrom('step', 'setup', 'phase', 'wait', 'saved', 'taken', 'more', 'unknown'), number, fc.option(number), fc.string({ maxLength: 200 }), fc.option(number))
  fc.assert(
    fc.property(number, fc.option(number), fc.option(number), number, fc.array(milestone, { maxLength: 200 }), (enqueued, started, ended, now, milestones) => {
      const { bars, marks, ticks, rows, more } = courseOf(view({ enqueued, started, ended, now }, milestones, [attempt('p', now, ended, 'lost')]))
      for (const { from, width } of bars) expect(from >= 0 && from <= 100 && width >= 0 && width <= 100).toBe(true)
      for (const { at: x } of [...marks, ...ticks]) expect(x >= 0 && x <= 100).toBe(true)
      expect(ticks.length).toBeLessThanOrEqual(6)
      expect(rows.length).toBeLessThanOrEqual(150)
      expect(more).toBeGreaterThanOrEqual(0)
    }),
    { numRuns: 100 },
  )
})
