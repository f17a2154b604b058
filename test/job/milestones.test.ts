import { expect, it } from 'vitest'
import { milestonesAfter, mostMilestones, takenOver } from '../../src/job/milestones.js'
import { newRunRecord, type RunRecord } from '../../src/job/run-record.js'
import fc from '../seeded-fast-check.js'

const fresh = newRunRecord({ jobId: 'job-1', generation: 1, repository: 'acme/web', startedAtMs: 1_000 })
const spec = { setup: [{ name: 'npm ci' }], steps: [{ name: 'agent' }, { name: 'npm test' }] }
const running = (key: string): RunRecord['running'] => ({ key, startedAtMs: 0, stdoutOffset: 0, stderrOffset: 0, timedOut: false })
const checkpoint = (sha: string): RunRecord['checkpoint'] => ({ sha, stepIndex: 0, headSha: sha, commitsAhead: 1, branch: 'checkpoint/x', atMs: 0, withinStep: true, holdsPaths: false, repositoryPath: null })
const result = (name: string, exitCode: number | null): RunRecord['steps'][number] => ({ name, exitCode, durationMs: 1, stdoutTail: '', stderrTail: '' })

/** A run that changes, and what it waits for. */
function course(changes: readonly (readonly [nowMs: number, patch: Partial<RunRecord>, waits?: string])[]): RunRecord {
  let record = fresh
  let waited: string | null = null
  for (const [nowMs, patch, waits = null] of changes) {
    const after = { ...record, ...patch }
    record = { ...after, milestones: milestonesAfter({ before: record, after, waited, waits, spec, nowMs }) }
    waited = waits
  }
  return record
}

it('tells of waits, phases, steps, checkpoints and a hand-over, in their order', () => {
  const { milestones } = course([
    [1_000, {}, 'e2b full (2/2)'],
    [2_000, {}, 'e2b full (2/2)'],
    [3_000, { phase: 'preparing' }],
    [4_000, { phase: 'setup', running: running('setup-0') }],
    [5_000, { setupIndex: 1, running: null }],
    [5_000, { phase: 'steps', running: running('step-0') }],
    [6_000, { checkpoint: checkpoint('a'.repeat(40)) }],
    [7_000, { checkpoint: checkpoint('b'.repeat(40)) }],
    [8_000, { stepIndex: 1, running: null, steps: [result('agent', 0)] }],
    [8_000, { running: running('step-1') }],
    // Its sandbox is lost.
    [9_000, { phase: 'placing', running: null }],
  ])
  expect(milestones).toEqual([
    ['wait', 0, 2_000, 'e2b full (2/2)', null],
    ['phase', 2_000, 3_000, 'preparing', null],
    ['setup', 3_000, 4_000, 'npm ci', 0],
    ['step', 4_000, 7_000, 'agent', 0],
    ['saved', 5_000, 6_000, 'b'.repeat(12), 2],
    ['step', 7_000, 8_000, 'npm test', null],
  ])
  expect(takenOver({ milestones: [['wait', 0, null, 'x', null]], startedAtMs: 1_000 }, 'consumer-2', 1_500)).toEqual([['wait', 0, 500, 'x', null], ['taken', 500, 500, 'consumer-2', null]])
})

it('ends a phase that was left by a change which came without milestones', () => {
  const prepared = course([[2_000, { phase: 'preparing' }]])
  const left: RunRecord = { ...prepared, phase: 'steps' }
  const after: RunRecord = { ...left, running: running('step-0') }
  expect(milestonesAfter({ before: left, after, waited: null, waits: null, spec, nowMs: 3_000 })).toEqual([['phase', 1_000, 2_000, 'preparing', null], ['step', 2_000, null, 'agent', null]])
})

it('writes an entry only when it has changed, and the exit code of a step that failed', () => {
  const before = course([[2_000, { phase: 'steps', running: running('step-0') }]])
  const offsets = { ...before, running: { ...running('step-0')!, stdoutOffset: 500 } }
  expect(milestonesAfter({ before, after: offsets, waited: null, waits: null, spec, nowMs: 3_000 })).toBe(before.milestones)
  const failed = { ...before, running: null, steps: [result('agent', 7)] }
  expect(milestonesAfter({ before, after: failed, waited: null, waits: null, spec, nowMs: 3_000 })).toEqual([['step', 1_000, 2_000, 'agent', 7]])
})

it('stays within its bounds, never goes back in time, and counts what it has no room for, whatever happens', () => {
  const happening = fc.oneof(
    fc.record({ phase: fc.constantFrom('placing', 'preparing', 'steps', 'pushing', 'promoting', 'closing') }),
    fc.record({ running: fc.constantFrom(null, running('step-0'), running('step-1')) }),
    fc.record({ checkpoint: fc.constantFrom(checkpoint('a'.repeat(40)), null) }),
  )
  const step = fc.tuple(fc.integer({ min: 0, max: 1e12 }), happening, fc.constantFrom(undefined, 'full', 'x'.repeat(5_000)))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (changes) => {
      const { milestones } = course(changes as Parameters<typeof course>[0])
      expect(milestones.length).toBeLessThanOrEqual(mostMilestones)
      for (const [, at, until, text] of milestones) {
        expect(at).toBeGreaterThanOrEqual(0)
        if (until !== null) expect(until).toBeGreaterThanOrEqual(at)
        expect(text.length).toBeLessThanOrEqual(120)
      }
    }),
    { numRuns: 25 },
  )
})
