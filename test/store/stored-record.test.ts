import { describe, expect, it } from 'vitest'
import { jobResult } from '../../src/consumers/ending/job-result.js'
import { newRunRecord, type RunRecord, runPhases, runRecordSchema } from '../../src/job/run-record.js'
import { changesBetween, leftOf, recordIn } from '../../src/store/stored-record.js'
import fc from '../seeded-fast-check.js'
import { record } from './fixture.js'

const text = fc.string({ maxLength: 20 })
const step = fc.record({ name: text, exitCode: fc.option(fc.integer({ min: 0, max: 255 })), durationMs: fc.nat(), stdoutTail: text, stderrTail: text })
const attempt = fc.record({
  provider: text,
  sandboxId: fc.option(text),
  startedAt: fc.constant('2026-01-01T00:00:00.000Z'),
  endedAt: fc.constantFrom(null, '2026-01-01T00:01:00.000Z'),
  outcome: fc.constantFrom('running' as const, 'lost' as const, 'failed' as const),
  error: fc.constantFrom(null, { kind: 'sandbox-lost' as const, message: 'gone' }),
})
const checkpoint = { sha: 'c'.repeat(40), stepIndex: 1, headSha: 'd'.repeat(40), commitsAhead: 2, branch: 'checkpoint/job-1.1', atMs: 5, withinStep: false, holdsPaths: true, repositoryPath: '/home/user/repository' }

/** What becomes of a record in one write: everything that a supervisor does to it, and fields of a later release. */
const change: fc.Arbitrary<(before: RunRecord) => Partial<RunRecord>> = fc.oneof(
  fc.constantFrom(...runPhases).map((phase) => () => ({ phase })),
  fc.option(fc.record({ key: text, startedAtMs: fc.nat(), stdoutOffset: fc.nat(), stderrOffset: fc.nat(), timedOut: fc.boolean() })).map((running) => () => ({ running })),
  step.map((each) => ({ steps }: RunRecord) => ({ steps: [...steps, each] })),
  fc.nat(3).map((count) => ({ steps }: RunRecord) => ({ steps: steps.slice(0, count) })),
  attempt.map((each) => ({ attempts }: RunRecord) => ({ attempts: [...attempts, each] })),
  attempt.map((each) => ({ attempts }: RunRecord) => ({ attempts: [...attempts.slice(0, -1), { ...attempts.at(-1), ...each }] })),
  fc.constantFrom(null, { ref: 'refs/heads/main', sha: 'a'.repeat(40) }, { ref: null, sha: 'a'.repeat(40), signed: true }).map((base) => () => ({ base })),
  fc.constantFrom(null, { provider: 'a', id: 's', createdAtMs: 1, repositoryPath: null, zone: 7 }).map((sandbox) => () => ({ sandbox })),
  fc.constantFrom(null, checkpoint).map((made) => () => ({ checkpoint: made })),
  fc.array(fc.record({ path: text, reason: text }), { maxLength: 3 }).map((unsaved) => () => ({ unsaved })),
  fc.array(fc.record({ provider: text, id: text }), { maxLength: 2 }).map((abandoned) => () => ({ abandoned })),
  fc.boolean().map((pushed) => () => ({ pushed, finalCommit: pushed ? 'b'.repeat(40) : null })),
  fc.nat().map((usedMs) => () => ({ usedMs })),
  text.map((colour) => () => ({ colour }) as Partial<RunRecord>),
  fc.nat(3).map((count) => ({ jobId, generation, repository, startedAtMs, attempts }: RunRecord) => ({
    ...newRunRecord({ jobId, generation, repository, startedAtMs }),
    attempts,
    restart: { count: count + 1, atMs: 3, attemptsBefore: attempts.length },
  })),
)
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe('a record', () => {
  it('is what is read from its hash, whatever became of it since it was written whole', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        let current: RunRecord = record('job')
        let hash: Record<string, string> = { generation: '1', record: JSON.stringify(current) }
        for (const each of changes) {
          const next = { ...current, ...each(current) }
          const fields = changesBetween(current, next)
          hash = fields === null ? { generation: '1', record: JSON.stringify(next) } : { ...hash, ...Object.fromEntries(fields) }
          // Whoever takes it over goes on from what is read.
          current = runRecordSchema.parse(recordIn(hash, null))
          expect(plain(current)).toEqual(plain(next))
        }
      }),
    )
  })

  it('of a run that has ended is what its result and the rest say, but for its course', () => {
    const course = ['creating', 'sandbox', 'next', 'running', 'firstSandboxAtMs', 'setupIndex', 'stepIndex', 'promoteFrom', 'brokeAtStep', 'checkpointProblem', 'descends', 'resumes', 'usedMs']
    const without = (all: unknown) => Object.fromEntries(Object.entries(all as object).filter(([name]) => !course.includes(name)))
    const outcome = fc.constantFrom({ status: 'succeeded' as const, error: null }, { status: 'failed' as const, error: { kind: 'step-failed' as const, message: 'exit 1' } })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 15 }), outcome, (changes, how) => {
        const end = changes.reduce<RunRecord>((before, each) => ({ ...before, ...each(before) }), record('job', { startedAtMs: 7 }))
        const ended: RunRecord = { ...end, phase: 'ended', outcome: how }
        const result = jobResult(ended, { metadata: {} }, ended.attempts, ended.usedMs)
        const left = leftOf(ended, result)
        expect(without(runRecordSchema.parse(recordIn({ generation: '1', record: JSON.stringify(left) }, result)))).toEqual(plain(without(ended)))
      }),
    )
  })

  it('that a run wrote whole is read as it is, ended or not', () => {
    const whole = record('job', { phase: 'steps', checkpoint, usedMs: 12 })
    expect(recordIn({ generation: '1', record: JSON.stringify(whole) }, null)).toEqual(whole)
    const ended: RunRecord = { ...whole, phase: 'ended', outcome: { status: 'succeeded', error: null } }
    expect(recordIn({ generation: '1', record: JSON.stringify(ended) }, jobResult(ended, { metadata: {} }, [], 12))).toEqual(ended)
  })

  it('sends only what changed: an entry of a list that grows, and no field that is as it was', () => {
    const before = record('job', { steps: [{ name: 'a', exitCode: 0, durationMs: 1, stdoutTail: 'x'.repeat(4_096), stderrTail: '' }], unsaved: [{ path: 'a', reason: 'b' }] })
    const entry = { name: 'b', exitCode: 0, durationMs: 1, stdoutTail: '', stderrTail: '' }
    expect(changesBetween(before, { ...before, steps: [...before.steps, entry], unsaved: [{ path: 'a', reason: 'b' }], stepIndex: 1 })).toEqual([
      ['r:stepIndex', '1'],
      ['r:steps:1', JSON.stringify(entry)],
    ])
    expect(changesBetween(before, { ...before, steps: [] })).toBeNull()
  })
})
