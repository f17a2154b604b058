import { describe, expect, it } from 'vitest'
import { restarts } from '../../src/consumers/supervision/restarts.js'
import { workBranch } from '../../src/job/names.js'
import type { JobErrorKind } from '../../src/job/errors.js'
import { jobErrorKinds } from '../../src/job/errors.js'
import { parseJobSpec } from '../../src/job/spec.js'
import { record } from '../store/fixture.js'

const spec = (fields: object = {}) => parseJobSpec({ repository: 'acme/web', steps: ['a', 'b'], attempts: 3, ...fields })
const attempt = { provider: 'a', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running', error: null } as const
const failed = (kind: JobErrorKind, fields: object = {}) => record('job', { attempts: [attempt, attempt, attempt, attempt], outcome: { status: 'failed', error: { kind, message: 'm' } }, ...fields })
const restarted = (count: number) => ({ restart: { count, atMs: 1, attemptsBefore: count } })

describe('a job that is about to end begins again', () => {
  it('after failures that may pass, and no others', () => {
    const again = jobErrorKinds.filter((kind) => restarts(failed(kind), spec()))
    expect(again).toEqual(['capacity', 'rate-limited', 'transient', 'sandbox-lost', 'provider-down', 'timeout', 'step-failed'])
  })
  it('as long as it has attempts left', () => {
    expect([0, 1, 2, 3].map((count) => restarts(failed('step-failed', count === 0 ? {} : restarted(count)), spec()))).toEqual([true, true, false, false])
    expect(restarts(failed('step-failed'), spec({ attempts: undefined }))).toBe(false)
    expect(restarts(failed('step-failed'), spec({ attempts: 1 }))).toBe(false)
  })
  it('not when it succeeded or was cancelled', () => {
    expect(restarts(record('job', { outcome: { status: 'succeeded', error: null } }), spec())).toBe(false)
    expect(restarts(record('job', { outcome: { status: 'cancelled', error: { kind: 'cancelled', message: 'm' } } }), spec())).toBe(false)
    expect(restarts(record('job'), spec())).toBe(false)
  })
  it('not when its time to wait for a first sandbox is over', () => {
    expect(restarts(failed('timeout', { attempts: [] }), spec())).toBe(false)
    expect(restarts(failed('timeout', { attempts: [{ ...attempt, sandboxId: null }] }), spec())).toBe(false)
  })
  it('not when its promotion may have happened already', () => {
    const promotes = spec({ promote: { to: 'main' } })
    expect(restarts(failed('transient', { pushed: true, stepIndex: 2 }), promotes)).toBe(false)
    expect(restarts(failed('transient', { pushed: true, stepIndex: 2 }), spec())).toBe(true)
    expect(restarts(failed('step-failed', { pushed: true, stepIndex: 1 }), promotes)).toBe(true)
  })
})

it('every run of a job has a branch of its own', () => {
  const names = [1, 2].flatMap((generation) => [record('job', { generation }), record('job', { generation, ...restarted(1) }), record('job', { generation, ...restarted(2) })].map(workBranch))
  expect(names).toEqual(['agent/job', 'agent/job-1.2', 'agent/job-1.3', 'agent/job-2', 'agent/job-2.2', 'agent/job-2.3'])
})
