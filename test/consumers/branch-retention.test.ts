import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { expiringBranches } from '../../src/consumers/ending/expiring-branches.js'
import { retryAfterMs, sweepBranches, type BranchSweepParts } from '../../src/consumers/reaping/branch-retention.js'
import type { GitHost } from '../../src/git/host.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { BranchSchedule, Reaping, RunStore, type ExpiringBranch } from '../../src/store/index.js'
import { newId, record, result, useRedis } from '../store/fixture.js'

const redis = useRedis()

describe('what a run leaves behind', () => {
  const time = { now: 1_000, retentionMs: 500_000 }
  const restart = { count: 2, atMs: 1, attemptsBefore: 2 }
  const done = { finalCommit: 'a'.repeat(40), pushed: true }
  const of = (fields: object, push: Parameters<typeof expiringBranches>[1] = {}, left: Partial<Parameters<typeof expiringBranches>[2]> = {}) =>
    Object.fromEntries(expiringBranches(record('job', fields), push, { resultBranch: null, kept: [], checkpoints: [], ...left }, time).map(({ name, dueAtMs }) => [name, dueAtMs]))

  it('is its own branch', () => expect(of(done)).toEqual({ 'agent/job': 501_000 }))
  it('is the branch of every attempt at the whole job', () => {
    expect(of({ ...done, restart })).toEqual({ 'agent/job': 501_000, 'agent/job-1.2': 501_000, 'agent/job-1.3': 501_000 })
    expect(of({ restart })).toEqual({ 'agent/job': 501_000, 'agent/job-1.2': 501_000 })
  })
  it('is a branch whose push was not answered', () => expect(of({ ...done, pushed: false })).toEqual({ 'agent/job': 501_000 }))
  it('is a checkpoint that could not be deleted, soon, and one that holds the only copy, later', () => {
    expect(of(done, {}, { checkpoints: ['checkpoint/job-1.1'] })).toEqual({ 'checkpoint/job-1.1': 61_000, 'agent/job': 501_000 })
    expect(of({}, {}, { checkpoints: ['checkpoint/job-1.1'] })).toEqual({ 'checkpoint/job-1.1': 501_000 })
  })
  it('is the last checkpoint of one that did not succeed, as long as its work', () => {
    const checkpoint = { sha: 'c'.repeat(40), stepIndex: 1, headSha: 'b'.repeat(40), commitsAhead: 0, branch: 'checkpoint/job-1.2', atMs: 5, withinStep: false, holdsPaths: false, repositoryPath: null }
    const checkpoints = ['checkpoint/job-1.1', 'checkpoint/job-1.2']
    const failed = { ...done, checkpoint, outcome: { status: 'failed', error: null } }
    expect(of(failed, {}, { checkpoints })).toEqual({ 'checkpoint/job-1.1': 61_000, 'checkpoint/job-1.2': 501_000, 'agent/job': 501_000 })
    expect(of({ ...failed, outcome: { status: 'succeeded', error: null } }, {}, { checkpoints })).toEqual({ 'checkpoint/job-1.1': 61_000, 'checkpoint/job-1.2': 61_000, 'agent/job': 501_000 })
  })
  it('is every kept branch that it may have pushed, of each attempt at the whole job', () => {
    expect(of({ ...done, keptCounts: [2] })).toEqual({ 'agent/job': 501_000, 'kept/job/1': 501_000, 'kept/job/2': 501_000 })
    expect(of({ restart, keptCounts: [1, 0, 1] })).toEqual({ 'agent/job': 501_000, 'agent/job-1.2': 501_000, 'kept/job/1': 501_000, 'kept/job-1.3/1': 501_000 })
    expect(of({ ...done, keptCounts: [2] }, { keep: true }, { resultBranch: 'agent/job', kept: ['kept/job/2'] })).toEqual({ 'kept/job/1': 501_000 })
  })
  it('is nothing when it pushed nothing', () => {
    expect(of({}, false)).toEqual({})
    expect(of({})).toEqual({})
  })
  it('is all but the one that it keeps', () => {
    expect(of({ ...done, restart }, { keep: true }, { resultBranch: 'agent/job-1.3', checkpoints: ['checkpoint/job-1.1'] })).toEqual({
      'checkpoint/job-1.1': 61_000, 'agent/job': 501_000, 'agent/job-1.2': 501_000,
    })
    expect(of({}, { keep: true }, { resultBranch: 'checkpoint/job-1.2', checkpoints: ['checkpoint/job-1.1', 'checkpoint/job-1.2'] })).toEqual({ 'checkpoint/job-1.1': 501_000 })
  })
})

it('a deletion that fails is tried ever more rarely, and given up in the end', () => {
  expect([1, 2, 3, 11, 12, 29].map(retryAfterMs)).toEqual([60_000, 120_000, 240_000, 61_440_000, 86_400_000, 86_400_000])
  expect(retryAfterMs(30)).toBeNull()
})

describe('the sweep', () => {
  const now = 1_000_000
  const round = { gapMs: 0, budgetMs: 60_000, signal: new AbortController().signal }

  function parts(deleteBranch: GitHost['deleteBranch'], clock = () => now): BranchSweepParts & { logged: string[] } {
    const connection = redis.connect()
    const logged: string[] = []
    return {
      schedule: new BranchSchedule(connection, redis.keys),
      reaping: new Reaping(connection, redis.keys, newId()),
      git: { ephemeral: true, deleteBranch } as GitHost,
      callTimeoutMs: 5_000,
      log: pino({ level: 'debug' }, { write: (line: string) => void logged.push(line) }),
      now: clock,
      logged,
    }
  }

  /** Ends a run that leaves these. */
  async function end(jobId: string, branches: readonly ExpiringBranch[]): Promise<void> {
    const store = new RunStore(redis.connect(), redis.keys)
    const acquired = await store.acquire(jobId, { holder: 'c', fresh: record(jobId) })
    if (acquired.kind === 'ended') throw new Error('ended')
    const finish = () => store.finish(jobId, acquired.fence, record(jobId), result(jobId), { id: `${jobId}.1` }, branches)
    await finish()
    await finish()
  }
  const branch = (name: string, dueAtMs: number): ExpiringBranch => ({ repository: 'acme/web', name, dueAtMs })

  it('deletes what is due, in batches, and nothing else', async () => {
    await end('job', [...Array.from({ length: 120 }, (_, index) => branch(`agent/${index}`, now - index)), branch('agent/later', now + 1)])
    const deleted: string[] = []
    const own = parts((repository, { name, ephemeral }) => Promise.resolve(void deleted.push(`${repository} ${name} ${ephemeral}`)))
    expect(await sweepBranches(own, round)).toBe(120)
    expect(new Set(deleted).size).toBe(120)
    expect(deleted[0]).toBe('acme/web agent/119 true')
    expect(deleted.some((text) => text.includes('later'))).toBe(false)
    expect(await redis.connect().zrange(redis.keys.branches(), '0', '-1')).toEqual(['["acme/web","agent/later"]'])
  })

  it('is made by one process at a time', async () => {
    await end('job', [branch('agent/a', now)])
    let deletions = 0
    const sweeps = await Promise.all(Array.from({ length: 10 }, () => sweepBranches(parts(() => Promise.resolve(void (deletions += 1))), { ...round, gapMs: 60_000 })))
    expect(sweeps.filter((deleted) => deleted !== null)).toEqual([1])
    expect(deletions).toBe(1)
  })

  it('tries what failed again later, says so each time, and gives up in the end', async () => {
    await end('job', [branch('agent/a', now), branch('agent/b', now)])
    let clock = now
    const own = parts((_repository, { name }) => (name === 'agent/b' ? Promise.resolve() : Promise.reject(new InfrastructureError({ kind: 'transient', source: 'git', message: 'git: no answer' }))), () => clock)
    expect(await sweepBranches(own, round)).toBe(1)
    expect(await own.schedule.due(clock, 10)).toEqual([])
    clock += 60_000
    expect(await own.schedule.due(clock, 10)).toEqual([{ repository: 'acme/web', name: 'agent/a', failures: 1 }])
    for (let failures = 2; failures <= 30; failures++) {
      expect(await sweepBranches(own, round)).toBe(0)
      clock += 86_400_000
    }
    expect(own.logged.filter((line) => line.includes('git: no answer'))).toHaveLength(30)
    expect(own.logged.some((line) => line.includes('given up'))).toBe(true)
    const left = await redis.connect().keys('*branches*')
    expect(left.filter((key) => !key.includes('reaping'))).toEqual([])
  })
})
