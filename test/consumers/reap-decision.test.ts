import { describe, expect, it } from 'vitest'
import { judgeSandbox, judgeSlot, remember, type FoundRun, type Surroundings } from '../../src/consumers/reaping/reap-decision.js'
import type { RunRecord } from '../../src/job/run-record.js'
import { sandboxTags, type SandboxInfo } from '../../src/providers/provider.js'
import type { Attempt } from '../../src/job/result.js'
import { lastRun } from '../../src/store/index.js'
import { record, result } from '../store/fixture.js'

const now = 1_000_000
/** The ledger's clock is another one. */
const ledgerMs = 9_000_000
const attempt: Attempt = { provider: 'p', sandboxId: null, startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running', error: null }

function sandbox(fields: Partial<SandboxInfo> & { attempt?: number } = {}): SandboxInfo {
  const { attempt: number = 1, ...rest } = fields
  return { id: 's', name: 'the-name', tags: sandboxTags({ deployment: 'ours', runId: 'job', attempt: number }), createdAtMs: now - 600_000, expiresAtMs: undefined, ...rest }
}

function run(fields: Partial<RunRecord>, ended = false): FoundRun {
  return { generation: 1, fence: 1, holder: 'c', record: record('job', fields), reason: null, cancel: null, result: ended ? result('job') : null, last: lastRun([], 1), atMs: 1 }
}

function around(found: FoundRun, fields: Partial<Surroundings> = {}): Surroundings {
  return { provider: 'p', deployment: 'ours', runs: new Map([['job', found]]), memory: { sandboxes: {}, places: {} }, givenUp: new Set(), graceMs: 120_000, now, atMs: ledgerMs, ...fields }
}

const inSandbox = { phase: 'steps', sandbox: { provider: 'p', id: 's', createdAtMs: 1, repositoryPath: null } } as const
const creating = { creating: { provider: 'p', name: 'the-name', atMs: 1 }, attempts: [attempt] }

describe('a sandbox', () => {
  it.each([
    ['is given up without a grace: its run is another’s by now, of a job that came under the same id', { ...inSandbox, sandbox: { ...inSandbox.sandbox, id: 'other' } }, 'orphan'],
    ['is its run’s until that has left it', inSandbox, 'owned'],
  ] as const)('with a place of its own %s', (_what, fields, verdict) => {
    expect(judgeSandbox(sandbox({ createdAtMs: now - 1 }), around(run(fields), { givenUp: new Set(['s']) })).verdict).toBe(verdict)
  })

  it.each<[string, SandboxInfo, FoundRun, string]>([
    ['that a live run names', sandbox(), run(inSandbox), 'owned'],
    ['that a live run creates, by its name', sandbox({ attempt: 7 }), run(creating), 'owned'],
    ['that a live run creates, by its tags where names are not told', sandbox({ name: undefined }), run(creating), 'owned'],
    ['of an earlier attempt where names are not told', sandbox({ name: undefined }), run({ ...creating, attempts: [attempt, attempt] }), 'orphan'],
    ['of another name than the one being created', sandbox({ name: 'earlier' }), run(creating), 'orphan'],
    ['with a name that is created at another provider', sandbox(), run({ ...creating, creating: { ...creating.creating, provider: 'q' } }), 'orphan'],
    ['with an id that a live run has at another provider', sandbox(), run({ ...inSandbox, sandbox: { ...inSandbox.sandbox, provider: 'q' } }), 'orphan'],
    ['that its live run has left for another', sandbox({ id: 'old' }), run(inSandbox), 'orphan'],
    ['of a run that has ended', sandbox(), run(inSandbox, true), 'orphan'],
    ['of a run that nobody knows', sandbox(), null, 'orphan'],
    ['of ours that names no job', sandbox({ tags: { 'switchyard-deployment': 'ours' } }), null, 'orphan'],
    ['of a run whose record can’t be read', sandbox(), 'unreadable', 'unclear'],
    ['of a run whose record is a later release’s', sandbox(), { generation: 1, fence: 1, holder: 'c', record: null, reason: null, cancel: null, result: null, last: lastRun([], 1), atMs: 1 }, 'unclear'],
    ['of a run that nobody knows, younger than the grace', sandbox({ createdAtMs: now - 119_999 }), null, 'young'],
    ['of a run that has ended, younger than the grace', sandbox({ createdAtMs: now - 1_000 }), run(inSandbox, true), 'young'],
    ['with a creation in the future of another clock', sandbox({ createdAtMs: now + 60_000 }), null, 'young'],
    ['as old as the grace', sandbox({ createdAtMs: now - 120_000 }), null, 'orphan'],
    ['young, but given up by its live run', sandbox({ id: 'left', createdAtMs: now - 1 }), run({ ...inSandbox, abandoned: [{ provider: 'p', id: 'left' }] }), 'orphan'],
    ['young, but given up by its ended run', sandbox({ id: 'left', createdAtMs: now - 1 }), run({ abandoned: [{ provider: 'p', id: 'left' }] }, true), 'orphan'],
    ['of another deployment', sandbox({ tags: sandboxTags({ deployment: 'theirs', runId: 'job', attempt: 1 }) }), null, 'foreign'],
    ['without tags', sandbox({ tags: {} }), null, 'foreign'],
  ])('%s', (_what, info, found, verdict) => {
    expect(judgeSandbox(info, around(found)).verdict).toBe(verdict)
  })

  it('whose age the provider does not tell is as old as the first sight of it', () => {
    const info = sandbox({ createdAtMs: undefined })
    const first = judgeSandbox(info, around(null))
    expect(first).toMatchObject({ verdict: 'young', ageMs: 0 })
    const memory = remember([first], new Map(), new Set(), [], around(null))
    expect(judgeSandbox(info, around(null, { memory, atMs: ledgerMs + 119_999 })).verdict).toBe('young')
    expect(judgeSandbox(info, around(null, { memory, atMs: ledgerMs + 120_000 }))).toMatchObject({ verdict: 'orphan', ageMs: 120_000 })
  })
})

describe('a place', () => {
  const job = { leaseId: 'l', owner: { kind: 'job', runId: 'job' }, removed: false, heldMs: 0 } as const
  const left = { leaseId: 'l', owner: { kind: 'sandbox', sandboxId: 's' }, removed: false, heldMs: 0 } as const
  const unanswered = { leaseId: 'l', owner: { kind: 'create', runId: 'job', attempt: 1, atMs: now }, removed: false, heldMs: 0 } as const
  const since = (ms: number) => ({ memory: { sandboxes: {}, places: { l: ledgerMs - ms } } })

  it('of a live run is kept, also when its record can’t be read', () => {
    expect(judgeSlot(job, [], 0, around(run(inSandbox), since(999_999)))).toBe('kept')
    expect(judgeSlot(job, [], 0, around('unreadable', since(999_999)))).toBe('kept')
  })
  it('of a live run whose job was removed from the queue is forgotten after the grace', () => {
    const removed = { ...job, removed: true }
    expect(judgeSlot(removed, [sandbox()], 0, around(run(inSandbox)))).toBe('waits')
    expect(judgeSlot(removed, [sandbox()], 0, around(run(inSandbox), since(119_999)))).toBe('waits')
    expect(judgeSlot(removed, [sandbox()], 0, around(run(inSandbox), since(120_000)))).toBe('forgotten')
    expect(judgeSlot(removed, [sandbox()], 0, around('unreadable', since(999_999)))).toBe('kept')
    expect(judgeSlot(removed, [sandbox()], 0, around(run(inSandbox, true), since(999_999)))).toBe('kept')
    expect(judgeSlot(removed, [], 0, around(run(inSandbox, true), since(999_999)))).toBe('free')
  })
  it('of an ended or unknown run is kept while a sandbox of it lives, and freed after the grace', () => {
    for (const found of [run({}, true), null]) {
      expect(judgeSlot(job, [sandbox()], 0, around(found, since(999_999)))).toBe('kept')
      expect(judgeSlot(job, [], 0, around(found))).toBe('waits')
      expect(judgeSlot(job, [], 0, around(found, since(119_999)))).toBe('waits')
      expect(judgeSlot(job, [], 0, around(found, since(120_000)))).toBe('free')
    }
  })
  it('that was left to a sandbox is kept while that lives', () => {
    expect(judgeSlot(left, [sandbox()], 0, around(run({})))).toBe('kept')
    expect(judgeSlot(left, [sandbox({ id: 'other' })], 0, around(run({})))).toBe('free')
  })
  it('that was left to an unanswered create is kept until a listing made late enough shows no such sandbox', () => {
    const held = (heldMs: number) => ({ ...unanswered, heldMs })
    expect(judgeSlot(held(60_000), [sandbox()], 0, around(run({})))).toBe('kept')
    expect(judgeSlot(held(14_999), [], 0, around(run({})))).toBe('waits')
    expect(judgeSlot(held(15_000), [], 1, around(run({})))).toBe('waits')
    expect(judgeSlot(held(15_000), [sandbox({ attempt: 2 })], 0, around(run({})))).toBe('free')
  })
  it('that was left to an unanswered create is not kept for a sandbox that the job’s next run has', () => {
    const held = { ...unanswered, heldMs: 15_000 }
    expect(judgeSlot(held, [sandbox()], 0, around(run(inSandbox)))).toBe('free')
    expect(judgeSlot({ ...held, heldMs: 1 }, [sandbox()], 0, around(run(inSandbox)))).toBe('waits')
    expect(judgeSlot(held, [sandbox()], 0, around(run({ ...inSandbox, sandbox: null, next: { sandbox: inSandbox.sandbox } as never })))).toBe('free')
    // Another one may be the one that nobody has heard of, or the run's own that has not answered yet.
    expect(judgeSlot(held, [sandbox(), sandbox({ id: 'unknown' })], 0, around(run(inSandbox)))).toBe('kept')
    expect(judgeSlot(held, [sandbox()], 0, around(run(creating)))).toBe('kept')
    expect(judgeSlot(held, [sandbox()], 0, around(run({ sandbox: { ...inSandbox.sandbox, provider: 'q' } })))).toBe('kept')
    expect(judgeSlot(held, [sandbox()], 0, around(run(inSandbox, true)))).toBe('kept')
    expect(judgeSlot(held, [sandbox()], 0, around('unreadable'))).toBe('kept')
  })

  // Places stayed taken for hours when the consumer that had left them was ahead by hours.
  it('is judged alike whatever the clocks of consumers say', () => {
    const unansweredThen = { ...unanswered, owner: { ...unanswered.owner, atMs: now + 10_000_000 }, heldMs: 15_000 }
    for (const skewMs of [-10_000_000, 0, 10_000_000]) {
      const there = (fields: Partial<Surroundings> = {}) => around(run({}, true), { now: now + skewMs, ...fields })
      expect(judgeSlot(unansweredThen, [], 0, there())).toBe('free')
      expect(judgeSlot(job, [], 0, there(since(119_999)))).toBe('waits')
      expect(judgeSlot(job, [], 0, there(since(120_000)))).toBe('free')
      const seen = { sandboxes: { s: { firstSeenAtMs: ledgerMs - 120_000, failedKills: 0, lastError: null } }, places: {} }
      expect(judgeSandbox(sandbox({ createdAtMs: now - 1_000 }), there({ memory: seen })).verdict).toBe('orphan')
    }
  })
})

it('failed kills are counted over the rounds, and forgotten with the sandbox', () => {
  const surroundings = around(null)
  const judged = [judgeSandbox(sandbox(), surroundings), judgeSandbox(sandbox({ id: 'dead' }), surroundings), judgeSandbox(sandbox({ id: 'x', tags: {} }), surroundings)]
  const first = remember(judged, new Map([['s', 'no answer']]), new Set(['dead']), ['l'], surroundings)
  expect(first).toEqual({ sandboxes: { s: { firstSeenAtMs: ledgerMs, failedKills: 1, lastError: 'no answer' } }, places: { l: ledgerMs } })
  const later = around(null, { memory: first, atMs: ledgerMs + 5 })
  const second = remember(judged.slice(0, 1), new Map([['s', 'refused']]), new Set(), ['l'], later)
  expect(second).toEqual({ sandboxes: { s: { firstSeenAtMs: ledgerMs, failedKills: 2, lastError: 'refused' } }, places: { l: ledgerMs } })
  expect(remember([], new Map(), new Set(), [], around(null, { memory: second }))).toEqual({ sandboxes: {}, places: {} })
})
