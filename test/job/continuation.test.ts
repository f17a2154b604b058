import { describe, expect, it } from 'vitest'
import { continuationOf, continuedRecord } from '../../src/job/continuation.js'
import type { RunRecord } from '../../src/job/run-record.js'
import { record } from '../store/fixture.js'

const sha = (letter: string) => letter.repeat(40)
const checkpoint = (fields: Partial<NonNullable<RunRecord['checkpoint']>> = {}) => ({
  sha: sha('c'), stepIndex: 1, headSha: sha('b'), commitsAhead: 0, branch: 'checkpoint/job-1.2', atMs: 5, withinStep: false, holdsPaths: false, repositoryPath: null, ...fields,
})
const step = (name: string, exitCode: number | null) => ({ name, exitCode, durationMs: 1, stdoutTail: name, stderrTail: '' })
const base = { ref: 'refs/heads/main', sha: sha('a') }
const ended = (fields: Partial<RunRecord> = {}) => record('job', { base, steps: [step('one', 0), step('two', 3)], checkpoint: checkpoint(), ...fields })

describe('a run that did not succeed is gone on with', () => {
  it.each([
    ['from its last checkpoint', ended(), null, false, { kind: 'checkpoint', branch: 'checkpoint/job-1.2', kept: false }],
    ['from one that the job keeps', ended(), 'checkpoint/job-1.2', true, { kind: 'checkpoint', branch: 'checkpoint/job-1.2', kept: true }],
    ['from one that goes, though the job keeps its work', ended(), 'agent/job', true, { kind: 'checkpoint', branch: 'checkpoint/job-1.2', kept: false }],
    ['from the base, where its steps changed nothing', ended({ checkpoint: checkpoint({ branch: null }) }), null, false, { kind: 'checkpoint', branch: null, kept: false }],
    ['from the start, where no step had ended', ended({ checkpoint: null, steps: [step('one', 3)] }), null, false, { kind: 'start' }],
    ['from the start, where a step was stopped', ended({ checkpoint: null, steps: [step('one', null)] }), null, false, { kind: 'start' }],
    ['from the start, where nothing had begun', ended({ base: null, checkpoint: null, steps: [] }), null, false, { kind: 'start' }],
    ['from the start, where nobody had taken it', null, null, false, { kind: 'start' }],
    ['not at all, where nothing was saved of what its steps did', ended({ checkpoint: null }), null, false, { kind: 'none', why: 'none was saved after the steps that it has done' }],
  ])('%s', (_name, run, branch, keeps, expected) => {
    expect(continuationOf(run, { branch }, keeps)).toEqual(expected)
  })

  it('with its base, its checkpoint and the steps that this holds, and nothing else of its course', () => {
    const before = ended({
      attempts: [{ provider: 'a', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'failed', error: null }],
      phase: 'ended', usedMs: 7, pushed: true, finalCommit: sha('f'), promoteFrom: { sha: sha('d') }, firstSandboxAtMs: 3, brokeAtStep: 1, keptCounts: [2],
      checkpointBranches: ['checkpoint/job-1.1', 'checkpoint/job-1.2'], unsaved: [{ path: 'p', reason: 'r' }], outcome: { status: 'failed', error: null },
    })
    const fresh = record('job', { generation: 2, startedAtMs: 9 })
    expect(continuedRecord(fresh, before)).toEqual({
      ...fresh, base, checkpoint: checkpoint(), stepIndex: 1, steps: [step('one', 0)], checkpointBranches: ['checkpoint/job-1.2'], unsaved: [{ path: 'p', reason: 'r' }],
      continues: { generation: 1, confirmed: false },
    })
  })
})
