import { describe, expect, it } from 'vitest'
import { isWithinStep } from '../../src/consumers/supervision/checkpoints.js'
import { newTips, pendingKept } from '../../src/consumers/supervision/kept-branches.js'
import { promotionOfRewritten, rewritten } from '../../src/consumers/supervision/phases/promoting.js'
import { resumesWithin } from '../../src/consumers/supervision/phases/steps.js'
import { boundedUnsaved, unsavedLine } from '../../src/consumers/supervision/save-report.js'
import { record } from '../store/fixture.js'

const plain = (text: string) => text

describe('what a save could not hold', () => {
  it('is kept in the record as text for people, without secrets and control characters', () => {
    const report = { unsaved: [{ path: 'a\u001b[31m\nb', reason: 'its filter printed s3cret' }], unsavedMore: 2 }
    expect(boundedUnsaved(report, (text) => text.replaceAll('s3cret', '******'))).toEqual({
      unsaved: [{ path: 'a\\x1b[31m\\nb', reason: 'its filter printed ******' }],
      unsavedMore: 2,
    })
  })

  it('is bounded, and what is left out is counted', () => {
    const many = Array.from({ length: 500 }, (_, index) => ({ path: `file ${index}`, reason: 'why' }))
    const { unsaved, unsavedMore } = boundedUnsaved({ unsaved: many, unsavedMore: 7 }, plain)
    expect([unsaved.length, unsavedMore]).toEqual([200, 307])
    const long = Array.from({ length: 100 }, (_, index) => ({ path: `${index}`.padEnd(4096, 'x'), reason: 'why' }))
    const bounded = boundedUnsaved({ unsaved: long, unsavedMore: 0 }, plain)
    expect(JSON.stringify(bounded).length).toBeLessThan(34_000)
    expect(bounded.unsaved.length + bounded.unsavedMore).toBe(100)
  })

  it('is one line, and only what is new is said', () => {
    const none = { unsaved: [], unsavedMore: 0 }
    const some = { unsaved: [{ path: 'a', reason: 'x' }], unsavedMore: 0 }
    expect(unsavedLine(none, some)).toBe('not saved as it is now: "a" (x); all else is')
    expect(unsavedLine(some, some)).toBeNull()
    expect(unsavedLine(some, none)).toBeNull()
    expect(unsavedLine(some, { unsaved: [...some.unsaved, { path: 'b', reason: 'y' }], unsavedMore: 3 })).toBe('not saved as it is now: "b" (y), 3 more; all else is')
    const many = { unsaved: Array.from({ length: 12 }, (_, index) => ({ path: `f${index}`, reason: 'z' })), unsavedMore: 0 }
    expect(unsavedLine(none, many)).toContain('"f9" (z), 2 more; all else is')
  })
})

describe('commits beside the branch', () => {
  const tips = [{ ref: 'refs/heads/try', sha: 'a'.repeat(40) }, { ref: 'worktree ../w', sha: 'b'.repeat(40) }]
  it('are unsaved until they are pushed', () => {
    expect(pendingKept([], tips)).toEqual([
      { path: 'refs/heads/try', reason: 'its commit aaaaaaaaaaaa was not pushed: the sandbox was gone before' },
      { path: 'worktree ../w', reason: 'its commit bbbbbbbbbbbb was not pushed: the sandbox was gone before' },
    ])
    const kept = [{ branch: 'kept/job/1', commit: 'a'.repeat(40), ref: 'refs/heads/try' }]
    expect(newTips(kept, tips)).toEqual([tips[1]])
  })
})

describe('a step goes on from within', () => {
  const checkpoint = { sha: 'a', stepIndex: 1, headSha: 'b', commitsAhead: 0, branch: 'checkpoint/job-1.1', atMs: 1, withinStep: true, holdsPaths: true, repositoryPath: null }
  const restored = { restored: true, pathsRestored: true }
  it('when a checkpoint of its own came back with what it remembers', () => {
    expect(resumesWithin(record('job', { checkpoint, stepIndex: 1 }), restored)).toBe(true)
  })
  it.each([
    ['the checkpoint was made before it', { checkpoint: { ...checkpoint, withinStep: false }, stepIndex: 1 }, restored],
    ['the checkpoint is of another step', { checkpoint, stepIndex: 2 }, restored],
    ['there is none', { checkpoint: null, stepIndex: 1 }, restored],
    ['nothing lay under checkpoint.paths', { checkpoint, stepIndex: 1 }, { restored: true, pathsRestored: false }],
    ['the sandbox is the first', { checkpoint, stepIndex: 1 }, { restored: false, pathsRestored: false }],
  ] as const)('but not when %s', (_what, fields, outcome) => {
    expect(resumesWithin(record('job', fields), outcome)).toBe(false)
  })

  it('and a checkpoint is of the step when the step changed something', () => {
    const running = { key: 'step-1-1', startedAtMs: 1, stdoutOffset: 0, stderrOffset: 0, timedOut: false }
    expect(isWithinStep({ running, checkpoint: null }, 1, true)).toBe(true)
    expect(isWithinStep({ running: null, checkpoint: null }, 1, true)).toBe(false)
    // Nothing new since a checkpoint before the step, and since one within it.
    expect(isWithinStep({ running, checkpoint: { ...checkpoint, withinStep: false } }, 1, false)).toBe(false)
    expect(isWithinStep({ running, checkpoint }, 1, false)).toBe(true)
    expect(isWithinStep({ running, checkpoint }, 2, false)).toBe(false)
  })
})

describe('work whose history was rewritten', () => {
  const work = record('job', { descends: false })
  it('is a conflict under ff_only that says why and where it is', () => {
    expect(rewritten(work, { to: 'main', strategy: 'ff_only' }).message).toMatch(/^promote\.to: "main" can’t be fast-forwarded \(ff_only\) to work that does not build on it: .* on "agent\/job"; .* strategy "merge"$/)
  })
  it.each(['merge_commit', 'created', 'fast_forward', 'no_op'] as const)('is promoted with a word (%s)', (result) => {
    expect(promotionOfRewritten({ to: 'main', result })).toContain('"main"')
  })
})
