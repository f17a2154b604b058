import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { examine } from '../../src/consumers/supervision/examination.js'
import { decide } from '../../src/consumers/supervision/reactions.js'
import type { RunContext } from '../../src/consumers/run-context.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { repository, type Repository } from '../runner/repository.js'
import { record } from '../store/fixture.js'

/** What the sandbox says of the git host: that it refuses the token. */
const claim = () => new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source: 'p', message: 'p: push: git failed: the token is not signed with a key of this organisation' })
let repo: Repository
beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())

function run(phase: 'pushing' | 'preparing'): RunContext {
  return {
    shared: { git: repo.storage.host, settings: { callTimeoutMs: 10_000 }, providers: new Map([['p', { provider: { get: () => Promise.resolve({ id: 's' }) } }]]) },
    spec: { repository: repo.id },
    record: record('job', { phase, sandbox: { provider: 'p', id: 's', createdAtMs: 1, repositoryPath: null } }),
    aftermath: new AbortController().signal,
    disproved: null,
  } as unknown as RunContext
}

/** @param takes whether the host takes what this consumer asks it, try by try from the second on. */
async function owners(phase: 'pushing' | 'preparing', takes: readonly boolean[]): Promise<string[]> {
  const ctx = run(phase)
  const found: string[] = []
  for (let tries = 1; tries <= takes.length + 1; tries++) {
    repo.storage.server.setOutage(tries === 1 || takes[tries - 2] === true ? null : { kind: 'forbid', repository: repo.id })
    const { error } = await examine(ctx, claim(), tries)
    if (error instanceof InfrastructureError) found.push(`${error.owner} ${error.kind}`)
  }
  return found
}

// A key that was changed between a sandbox's push and our own call failed jobs for good.
describe('a refusal that a sandbox tells of', () => {
  it.each([
    ['that the host confirms is the host’s', 'pushing', [false, false], ['sandbox transient', 'git-repository auth', 'git-repository auth']],
    ['that the host does not confirm once may have passed', 'pushing', [true], ['sandbox transient', 'sandbox transient']],
    ['that the host does not confirm twice in a row is the job’s', 'pushing', [true, true], ['sandbox transient', 'sandbox transient', 'job invalid']],
    ['that comes and goes is never the job’s', 'pushing', [true, false, true, false, true], ['sandbox transient', 'sandbox transient', 'git-repository auth', 'sandbox transient', 'git-repository auth', 'sandbox transient']],
    ['of a fetch is the sandbox’s at the most', 'preparing', [true, true], ['sandbox transient', 'sandbox transient', 'sandbox auth']],
  ] as const)('%s', async (_what, phase, takes, expected) => {
    expect(await owners(phase, takes)).toEqual(expected)
  })
})

// One call too many gave the sandbox up, with the work since its last checkpoint.
it('a provider that limits calls into a sandbox is asked whether it lives at once, and one that limits this too says nothing against it', async () => {
  const limited = (message: string) => new InfrastructureError({ kind: 'rate-limited', source: 'p', message, retryAfterMs: 1_000 })
  for (const get of [() => Promise.resolve({ id: 's' }), () => Promise.reject(limited('p: get: too many calls'))]) {
    const ctx = run('pushing')
    Object.assign(ctx.shared, { providers: new Map([['p', { provider: { get } }]]) })
    expect(await examine(ctx, limited('p: exec: too many calls'), 1)).toMatchObject({ lives: true, origin: 'exec', error: { kind: 'rate-limited', owner: 'provider-data-plane' } })
  }
  const ctx = run('pushing')
  Object.assign(ctx.shared, { providers: new Map([['p', { provider: { get: () => Promise.resolve(undefined) } }]]) })
  expect(await examine(ctx, limited('p: exec: too many calls'), 1)).toMatchObject({ lives: false, error: { kind: 'sandbox-lost' } })
})

// A full disk where a consumer keeps its temporary files failed jobs whose work was done, as a defect.
it('of a consumer whose machine has nothing left is waited for, and what else is thrown is a defect', async () => {
  const context = { origin: 'git', tries: 1, refusals: 1, nowMs: 1_000, sinceMs: 1_000, lives: false, brokeBefore: false, patienceMs: 60_000 } as const
  const full = Object.assign(new Error("ENOSPC: no space left on device, mkdtemp '/tmp/x'"), { code: 'ENOSPC' })
  for (const thrown of [full, new Error('not packed', { cause: full }), Object.assign(new Error('spawn git EMFILE'), { code: 'EMFILE' })]) {
    const { error, origin } = await examine(run('pushing'), thrown, 1)
    expect(decide(error, { ...context, origin })).toMatchObject({ owner: 'consumer-configuration', report: null, reaction: { kind: 'wait', untilMs: 61_000, error: { kind: 'transient' } } })
    expect(decide(error, { ...context, origin, nowMs: 61_000 }).reaction).toMatchObject({ kind: 'fail', error: { owner: 'consumer-configuration' } })
  }
  const { error } = await examine(run('pushing'), Object.assign(new Error('x'), { code: 'ENOTDIR' }), 1)
  expect(decide(error, context).reaction).toMatchObject({ kind: 'fail', error: { kind: 'internal' } })
})
