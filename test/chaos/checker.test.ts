import { describe, expect, it } from 'vitest'
import { checkCapacity, checkIdle } from './check-capacity.js'
import { checkHostile } from './check-hostile.js'
import { checkJobs } from './check-jobs.js'
import { checkKeys } from './check-keys.js'
import type { RedisEvidence, RepositoryEvidence, SeenResult, SeenRun } from './evidence.js'
import { faultKinds, planFaults } from './fault-plan.js'
import { writeJobScripts, type JobScript } from './job-scripts.js'
import { random } from './random.js'
import type { FaultWindow } from './faults.js'
import type { Sample } from './sampler.js'
import { Tree, treeDifferences } from './tree.js'

// A checker that finds nothing is worth nothing: each of its rules is shown something that breaks it.

const script: JobScript = {
  key: 'job-0',
  kind: 'plain',
  atMs: 0,
  cancelAfterMs: null,
  spec: { repository: 'acme/one', steps: ['true'] },
  expected: {
    status: 'succeeded',
    errorKind: null,
    exitCodes: [0],
    tree: new Tree().write('a', 'a').entries(),
    promotedTo: null,
    ownCommits: 0,
    outputs: ['work 1: run 1 of 0\n'],
  },
}
const result: SeenResult = {
  jobId: 'j',
  status: 'succeeded',
  error: null,
  branch: 'agent/j',
  commit: 'c1',
  baseSha: 'c0',
  promoted: null,
  steps: [{ name: 'work 1', exitCode: 0, stdoutTail: 'work 1: run 1 of 0\n' }],
  attempts: [{ provider: 'local', sandboxId: 's', endedAt: '2026-01-01T00:00:00.000Z', outcome: 'succeeded' }],
}
const piece = { step: 'work 1', stream: 'stdout', attempt: 1, offset: 0, data: 'work 1: run 1 of 0\n' }
const run: SeenRun = { result, record: { phase: 'ended', abandoned: [] }, pieces: [piece], ends: 1, listed: ['completed'] }
const repository: RepositoryEvidence = {
  ephemeral: new Map([['agent/j', 'c1']]),
  branches: new Map([['main', 'c0']]),
  tree: () => Promise.resolve(new Tree().write('a', 'a').entries()),
  commits: () => Promise.resolve([{ author: 'Switchyard', subject: 'Work of job j' }]),
}
const event = { id: 'j.1', subject: 'j', type: 'dev.switchyard.job.succeeded', data: result }

async function check(changes: { run?: Partial<SeenRun>; result?: Partial<SeenResult>; events?: RedisEvidence['events']; repository?: Partial<RepositoryEvidence>; expected?: Partial<JobScript['expected']>; spec?: object; refused?: [fromMs: number, toMs: number] }) {
  const struck = { killedSandboxes: new Set(['killed']), refusals: changes.refused === undefined ? [] : [{ repository: 'acme/one', fromMs: changes.refused[0], toMs: changes.refused[1] }], others: [] }
  const seen = { ...result, ...changes.result }
  const evidence: RedisEvidence = {
    runs: new Map([['j', { ...run, result: seen, ...changes.run }]]),
    events: changes.events ?? [{ ...event, type: `dev.switchyard.job.${seen.status}`, data: seen }],
    keys: new Map(),
  }
  const job = { jobId: 'j', script: { ...script, spec: { ...script.spec, ...changes.spec }, expected: { ...script.expected, ...changes.expected } } }
  return (await checkJobs([job], evidence, new Map([['acme/one', { ...repository, ...changes.repository }]]), struck)).map(({ what }) => what)
}

/** A failed job whose sandbox was lost before its work was saved. */
const unsaved = {
  expected: { status: 'failed', errorKind: 'step-failed' } as const,
  result: { status: 'failed', error: { kind: 'step-failed', message: 'x' }, branch: 'checkpoint/j-1.1', attempts: [{ provider: 'local', sandboxId: 'killed', endedAt: '2026-01-01T00:00:00.000Z', outcome: 'failed' }] },
  repository: { ephemeral: new Map([['checkpoint/j-1.1', 'c1']]) },
  run: { listed: ['failed'], pieces: [piece, { ...piece, step: 'switchyard', stream: 'system', data: 'the work of this failed job was not pushed: gone\n' }] },
}

describe('a repository that the git host refuses', () => {
  const endedAt = new Date(100_000).toISOString()
  const refusedEnd = {
    status: 'failed', error: { kind: 'auth', message: 'answered 403', owner: 'git-repository' }, commit: null, branch: null, promoted: null, steps: [],
    attempts: [{ provider: 'local', sandboxId: 's', endedAt, outcome: 'failed' }],
  }

  it('may end its jobs while it is refused, and not otherwise', async () => {
    expect(await check({ result: refusedEnd, refused: [90_000, 110_000] })).toEqual([])
    expect(await check({ result: refusedEnd, refused: [10_000, 20_000] })).not.toEqual([])
    expect(await check({ result: { ...refusedEnd, error: { ...refusedEnd.error, owner: 'provider-create' } }, refused: [90_000, 110_000] })).not.toEqual([])
    expect(await check({ result: refusedEnd, refused: [90_000, 110_000], spec: { repository: 'acme/two' } })).not.toEqual([])
  })
})

describe('a job that attacks its runner', () => {
  const judge = (changes: Partial<SeenResult>) => checkHostile([{ jobId: 'j', attack: 'x' }], { runs: new Map([['j', { ...run, result: { ...result, ...changes } }]]), events: [event], keys: new Map() }).map(({ what }) => what)

  it('ends by its own fault or not at all', () => {
    expect(judge({})).toEqual([])
    expect(judge({ status: 'failed', error: { kind: 'invalid', message: 'x', owner: 'job' } })).toEqual([])
    expect(judge({ status: 'failed', error: { kind: 'provider-down', message: 'x', owner: 'provider-data-plane' } })).toHaveLength(1)
    expect(judge({ status: 'failed', error: { kind: 'internal', message: 'a defect in Switchyard: x', owner: 'deployment' } })).toHaveLength(2)
    expect(checkHostile([{ jobId: 'k', attack: 'x' }], { runs: new Map(), events: [], keys: new Map() })).toHaveLength(1)
  })
})

describe('a job', () => {
  it('passes when all is as its script says', async () => {
    expect(await check({})).toEqual([])
    expect(await check(unsaved)).toEqual([])
  })

  it.each<[string, Parameters<typeof check>[0], RegExp]>([
    ['did not end', { run: { result: null }, events: [] }, /did not end/],
    ['ended otherwise', { result: { status: 'failed', error: { kind: 'internal', message: 'x' } } }, /ended failed \(internal: x\), must be succeeded/],
    ['has another exit code', { result: { steps: [{ name: 'work 1', exitCode: 3, stdoutTail: piece.data }] } }, /ended with \[3\], must be \[0\]/],
    ['has an attempt without an end', { result: { attempts: [{ provider: 'local', sandboxId: 's', endedAt: null, outcome: 'running' }] } }, /attempt 1 at local has no end/],
    ['is still active in the queue', { run: { listed: ['active'] } }, /the queue has it in active/],
    ['has no event', { events: [] }, /has no event/],
    ['has two event ids', { events: [event, { ...event, id: 'j.2' }] }, /2 ids/],
    ['has an event with another result', { events: [{ ...event, data: { ...result, commit: 'c9' } }] }, /tells another result/],
    ['has output with a hole', { run: { pieces: [{ ...piece, offset: 5 }] } }, /a piece at byte 5 follows byte 0/],
    ['has output twice', { run: { pieces: [piece, piece] } }, /follows byte/],
    ['ran a step twice in one sandbox', { run: { pieces: [{ ...piece, data: 'work 1: run 2 of 0\n' }] } }, /holds what it must not/],
    ['lost output', { run: { pieces: [] } }, /whole in no attempt/],
    ['printed an error', { run: { pieces: [piece, { ...piece, stream: 'stderr', data: 'oh' }] } }, /stderr of work 1: "oh"/],
    ['has another tree', { expected: { tree: new Tree().write('a', 'b').entries() } }, /tree: "a" is 100644 .*, must be 100644/],
    ['has no branch', { repository: { ephemeral: new Map() } }, /there is no branch agent\/j/],
    ['has commits that nobody asked for', { expected: { ownCommits: 1 } }, /must be 1 of the agent’s/],
    ['was not promoted', { expected: { promotedTo: 'done' } }, /done is at nothing/],
    ['was promoted', { result: { promoted: { to: 'main', sha: 'c1' } } }, /was promoted to main/],
    ['lost its branch without a word', { ...unsaved, run: {} }, /there is no branch agent\/j/],
    ['lost its branch though nothing killed its sandbox', { ...unsaved, result: { ...unsaved.result, attempts: result.attempts } }, /there is no branch agent\/j/],
    ['names a checkpoint that is not there', { ...unsaved, repository: { ephemeral: new Map() } }, /which is at nothing/],
    ['kept a checkpoint with something else in it', { ...unsaved, expected: { ...unsaved.expected, tree: new Tree().write('a', 'b').entries() } }, /checkpoint tree: "a" is neither/],
    ['pushed though it must not', { expected: { tree: null }, spec: { push: false } }, /pushed agent\/j though it must not/],
  ])('is found out when it %s', async (_what, changes, problem) => {
    expect((await check(changes)).join('\n')).toMatch(problem)
  })
})

it('trees differ by mode, content and absence', () => {
  const tree = new Tree().write('same', 'x').write('mode', 'x', true).write('text', 'x').write('more', 'x')
  const expected = new Tree().write('same', 'x').write('mode', 'x').write('text', 'y').write('less', 'x')
  expect(treeDifferences(tree.entries(), expected.entries()).map((line) => line.split(' ')[0])).toEqual(['"less"', '"mode"', '"more"', '"text"'])
})

it('capacity is exceeded when a provider ever had one too many, and sandboxes are left when one is', () => {
  expect(checkCapacity([{ provider: 'e2b', limit: 3, state: { maxLive: 3, live: 0, sandboxes: [] } }])).toEqual([])
  expect(checkCapacity([{ provider: 'e2b', limit: 3, state: { maxLive: 4, live: 1, sandboxes: [{ id: 's' }] } }])).toHaveLength(2)
})

it('keys are left when no rule allows them, or when they would never go', () => {
  const keys = (entries: [string, number][]) => checkKeys(new Map(entries), new Set(['j'])).map(({ what }) => what)
  expect(keys([['{switchyard}::run:j', 1000], ['{switchyard}:agents:completed', -1], ['{switchyard}:agents:j:logs', -1], ['{switchyard}:ledger:provider:e2b', -1], ['{switchyard}:reaping::branches', 1], ['{switchyard}::log-account:j:stdout', 9]])).toEqual([])
  expect(keys([['{switchyard}::run:j', -1], ['{switchyard}:ledger:jobs', -1], ['{switchyard}:agents:active', -1], ['{switchyard}:agents:j:lock', 1000], ['{switchyard}::run:k', 1000], ['other', -1]])).toHaveLength(6)
})

describe('idle places', () => {
  // Every 200 ms, so that the time between two samples is known.
  const stretch = (fromMs: number, toMs: number, seen: { live: number; taken: number; waiting: number | null; consumers?: number }): Sample[] =>
    Array.from({ length: (toMs - fromMs) / 200 }, (_, index) => ({
      atMs: fromMs + index * 200,
      live: { e2b: seen.live },
      taken: { e2b: seen.taken },
      waiting: seen.waiting,
      consumers: seen.consumers ?? 3,
    }))
  const options = { consumers: 3, freeMs: 1_000, unusedMs: 10_000 }
  const check = (samples: Sample[], windows: FaultWindow[] = []) => checkIdle(samples, windows, { e2b: 3 }, options)
  const full = { live: 3, taken: 3, waiting: 5 }
  const free = { live: 2, taken: 2, waiting: 5 }

  it('are found when a place is nobody’s for too long while jobs wait', () => {
    const idle = [...stretch(0, 1_000, full), ...stretch(1_000, 2_600, free), ...stretch(2_600, 3_000, full)]
    expect(check(idle)).toMatchObject({ violations: [{ what: 'e2b had 2 of 3 places taken from 1000 ms to 2400 ms, while 5 jobs waited' }], longestFreeMs: 1_400 })
    expect(check(idle.map((sample) => ({ ...sample, waiting: 0 }))).violations).toEqual([])
    expect(check([...stretch(0, 1_000, free), ...stretch(1_000, 1_200, full), ...stretch(1_200, 2_000, free)]).violations).toEqual([])
  })

  it('are found when somebody holds a place for too long without a sandbox', () => {
    const held = { live: 2, taken: 3, waiting: 5 }
    expect(check(stretch(0, 12_000, held)).violations).toEqual([{ jobId: null, what: 'e2b had 2 of 3 sandboxes from 0 ms to 11800 ms, while 5 jobs waited' }])
    expect(check(stretch(0, 9_000, held)).violations).toEqual([])
  })

  it('are nobody’s fault while one is under way, a consumer is missing, or the machine was too busy to look', () => {
    const idle = stretch(0, 5_000, free)
    expect(check(idle, [{ kind: 'restart-redis', provider: null, fromMs: -3_000, toMs: -2_000 }])).toMatchObject({ violations: [], judgedMs: 0 })
    expect(check(idle, [{ kind: 'provider-down', provider: 'modal', fromMs: 0, toMs: 2_000 }]).violations).toHaveLength(1)
    expect(check(stretch(0, 5_000, { ...free, consumers: 2 })).violations).toEqual([])
    expect(check([...stretch(0, 800, free), ...stretch(3_000, 3_800, free)]).violations).toEqual([])
  })
})

it('a seed decides jobs and faults, another seed others', () => {
  const made = (seed: string) => ({
    jobs: writeJobScripts(random(seed).fork('jobs'), { count: 50, spanMs: 60_000, repositories: ['acme/one'], providers: ['local'], light: false }),
    faults: planFaults(random(seed).fork('faults'), { spanMs: 300_000, kinds: faultKinds, servers: ['e2b'], providers: ['local', 'e2b'], repositories: ['acme/one'] }),
  })
  expect(made('a')).toEqual(made('a'))
  expect(made('a')).not.toEqual(made('b'))
  expect(new Set(made('a').jobs.map(({ kind }) => kind)).size).toBeGreaterThan(5)
  expect(new Set(made('a').faults.map(({ kind }) => kind)).size).toBeGreaterThan(8)
})
