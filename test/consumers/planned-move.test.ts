import { describe, expect, it } from 'vitest'
import { judgeSandbox } from '../../src/consumers/reaping/reap-decision.js'
import { graceMs, moveTimes, toNext } from '../../src/consumers/supervision/planned-move.js'
import { record } from '../store/fixture.js'

describe('a sandbox that ends whatever is done', () => {
  it('is left shortly before: the next one is made first, and it is never too late for the checkpoint', () => {
    expect(moveTimes({ createdAtMs: 0, endsAtMs: 3_600_000 }, 180_000)).toEqual({ soonMs: 3_420_000, lateMs: 3_510_000 })
    // Of a short life a third.
    expect(moveTimes({ createdAtMs: 0, endsAtMs: 30_000 }, 180_000)).toEqual({ soonMs: 20_000, lateMs: 25_000 })
    // A clock that was set back.
    expect(moveTimes({ createdAtMs: 60_000, endsAtMs: 30_000 }, 180_000)).toEqual({ soonMs: 30_000, lateMs: 30_000 })
  })
  it('is not left when nobody knows its end', () => expect(moveTimes({ createdAtMs: 0 }, 180_000)).toBeNull())
  it('leaves its command a part of the time to end', () => {
    expect(graceMs({ soonMs: 3_420_000, lateMs: 3_510_000 }, 5_000)).toBe(5_000)
    expect(graceMs({ soonMs: 21_000, lateMs: 24_000 }, 5_000)).toBe(1_000)
    expect(graceMs({ soonMs: 30_000, lateMs: 30_000 }, 5_000)).toBe(1)
  })
})

describe('a job that leaves its sandbox', () => {
  const attempts = [{ provider: 'a', sandboxId: 's1', startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T01:00:00.000Z', outcome: 'moved', error: null }] as const
  const startedAt = '2026-01-01T01:00:00.000Z'
  const begun = { startedAt, endedAt: null, outcome: 'running', error: null }
  it('goes on in the one that is ready', () => {
    const next = { creating: null, sandbox: { provider: 'b', id: 's2', createdAtMs: 5, endsAtMs: 9 } }
    expect(toNext({ next, attempts: [...attempts] }, startedAt)).toEqual({
      phase: 'preparing', creating: null, next: null, sandbox: { ...next.sandbox, repositoryPath: null }, attempts: [...attempts, { ...begun, provider: 'b', sandboxId: 's2' }],
    })
  })
  it('finds the one whose create was not answered yet', () => {
    const creating = { provider: 'b', name: 'sy-2', atMs: 5 }
    expect(toNext({ next: { creating, sandbox: null }, attempts: [...attempts] }, startedAt)).toEqual({
      phase: 'placing', creating, next: null, sandbox: null, attempts: [...attempts, { ...begun, provider: 'b', sandboxId: null }],
    })
  })
  it.each([null, { creating: null, sandbox: null }])('waits for a place when there is none (%j)', (next) => {
    expect(toNext({ next, attempts: [...attempts] }, startedAt)).toEqual({ phase: 'placing', creating: null, next: null, sandbox: null, attempts: [...attempts] })
  })
})

describe('the reaper', () => {
  const sandbox = { provider: 'a', id: 's1', createdAtMs: 1, repositoryPath: null }
  const judge = (fields: Parameters<typeof record>[1], info: { id: string; name?: string; attempt: number }, provider = 'b') => {
    const tags = { 'switchyard-deployment': 'd', 'switchyard-job': 'job', 'switchyard-attempt': String(info.attempt) }
    const runs = new Map([['job', { record: record('job', { phase: 'steps', sandbox, attempts: [attempt], ...fields }), result: null }]])
    const around = { provider, deployment: 'd', runs: runs as never, memory: { sandboxes: {}, places: {} }, givenUp: new Set<string>(), graceMs: 0, now: 100, atMs: 100 }
    return judgeSandbox({ id: info.id, name: info.name, tags, createdAtMs: 1, expiresAtMs: undefined }, around).verdict
  }
  const attempt = { provider: 'a', sandboxId: 's1', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running' as const, error: null }
  const creating = { provider: 'b', name: 'sy-2', atMs: 5 }
  it('leaves the next sandbox of a job alone, also before its create was answered', () => {
    expect(judge({ next: { creating: null, sandbox: { provider: 'b', id: 's2', createdAtMs: 5 } } }, { id: 's2', attempt: 2 })).toBe('owned')
    expect(judge({ next: { creating, sandbox: null } }, { id: 's2', name: 'sy-2', attempt: 2 })).toBe('owned')
    expect(judge({ next: { creating, sandbox: null } }, { id: 's2', attempt: 2 })).toBe('owned')
    expect(judge({ next: { creating, sandbox: null } }, { id: 's1', attempt: 1 }, 'a')).toBe('owned')
    expect(judge({ next: { creating, sandbox: null } }, { id: 's3', attempt: 1 })).toBe('orphan')
    expect(judge({}, { id: 's2', attempt: 2 })).toBe('orphan')
  })
})
