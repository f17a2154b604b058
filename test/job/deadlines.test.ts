import { describe, expect, it } from 'vitest'
import { deadlineOf, timeoutSentence, waitsSince } from '../../src/job/deadlines.js'
import { newRunRecord, type RunRecord } from '../../src/job/run-record.js'

const fresh = newRunRecord({ jobId: 'j', generation: 1, repository: 'acme/web', startedAtMs: 1_000 })
const attempt = { provider: 'a', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running', error: null } as const
const spec = { timeoutMs: 60_000, waitTimeoutMs: 5_000 }

describe('a job’s time', () => {
  it.each<[string, Partial<RunRecord>, { timeoutMs: number; waitTimeoutMs: number | undefined }, ReturnType<typeof deadlineOf>]>([
    ['is bounded by waitTimeout until its first sandbox, from the queue on', {}, spec, { kind: 'waitTimeout', atMs: 5_500 }],
    ['is not bounded until its first sandbox without', {}, { ...spec, waitTimeoutMs: undefined }, null],
    ['counts from its first sandbox', { firstSandboxAtMs: 70_000, attempts: [attempt] }, spec, { kind: 'timeout', atMs: 130_000 }],
    ['goes on counting while it moves', { firstSandboxAtMs: 70_000, attempts: [{ ...attempt, outcome: 'lost' }] }, spec, { kind: 'timeout', atMs: 130_000 }],
    ['is not bounded before the first sandbox of another attempt', { restart: { count: 1, atMs: 9_000, attemptsBefore: 1 }, attempts: [attempt] }, spec, null],
    ['counts as an earlier release counted, whose record has no first sandbox', { attempts: [attempt] }, spec, { kind: 'timeout', atMs: 61_000 }],
    ['so also after a restart', { restart: { count: 1, atMs: 9_000, attemptsBefore: 1 }, attempts: [attempt, attempt] }, spec, { kind: 'timeout', atMs: 69_000 }],
  ])('%s', (_what, record, times, deadline) => {
    expect(deadlineOf({ ...fresh, ...record }, times, 500)).toEqual(deadline)
  })

  it.each([
    ['as both say', 1_000, 4_000, 1_000],
    ['as the one says that gives it more', 1_000, 4_500, 1_500],
    ['as the other one does', 1_000, 100, 1_000],
    ['as the queue says where Redis has forgotten it', 1_000, null, 1_000],
    ['from now on where whoever enqueued it was ahead by hours', 90_000, 4_000, 2_000],
    ['from now on where Redis was set back by hours', 1_000, 90_000, 2_000],
  ])('waits %s', (_what, fromMs, leftMs, since) => {
    expect(waitsSince({ fromMs, leftMs }, 5_000, 2_000)).toBe(since)
  })

  it('says when it is up what the job waited for', () => {
    expect(timeoutSentence('timeout', spec, null)).toBe('the job did not end within its timeout of 60 s')
    expect(timeoutSentence('waitTimeout', spec, 'waiting for capacity: a full (1/1)')).toBe('the job got no sandbox within its waitTimeout of 5 s; it was waiting for capacity: a full (1/1)')
  })
})
