import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProviders, type ConfiguredProvider } from '../../src/config/providers.js'
import type { LogLine } from '../../src/job/log.js'
import { checkpointBranch } from '../../src/job/names.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/index.js'
import { sandboxTags, type SandboxRequest } from '../../src/providers/provider.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { startProviderServer, type ProviderServer } from '../chaos/provider-servers.js'
import { spanning } from '../whole.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'

/**
 * E2B, Modal and Daytona in one deployment, through their own SDKs: each SDK against the server that speaks its provider's
 * protocol, with a real consumer between Redis and Code Storage.
 */
const names = ['e2b', 'modal', 'daytona'] as const
const limit = 4
/** A machine with much else to do needs more than the usual minute. */
const patience = 180_000
/** Modal's server lets no more in than two, although the deployment believes in four. */
const modalSize = 2

let deployment: Deployment
let base: string
let servers: readonly ProviderServer[]
let providers: ConfiguredProvider[]

beforeAll(async () => {
  // The SDK reads it when it is loaded: a developer's own ~/.modal.toml has no say here.
  process.env['MODAL_CONFIG_PATH'] = '/dev/null'
  deployment = await startDeployment()
  base = await deployment.seed('acme/web', { 'README.md': 'hello\n', 'check.sh': 'grep -q hello README.md\n' })
  servers = await Promise.all(names.map((name) => startProviderServer(name, limit, name === 'modal' ? modalSize : undefined)))
  const environment = Object.assign({}, ...servers.map((server) => server.environment)) as Record<string, string>
  providers = await createProviders(servers.map(({ entry }) => entry), { environment })
  await deployment.startConsumer({ providers })
})
afterAll(async () => {
  await deployment.close()
  await Promise.all(providers.map(({ provider }) => provider.close()))
  await Promise.all(servers.map((server) => server.close()))
})

const serverOf = (name: string): ProviderServer => servers.find((server) => server.name === name)!

async function linesOf(job: JobHandle): Promise<LogLine[]> {
  const lines: LogLine[] = []
  for await (const line of job.logs({ follow: false })) lines.push(line)
  return lines
}

function outputOf(lines: readonly LogLine[], step: string): string {
  return lines.filter((line) => line.step === step && line.stream === 'stdout').map(({ text }) => text).join('')
}

const attemptsOf = (lines: readonly LogLine[], step: string) => [...new Set(lines.filter((line) => line.step === step).map(({ attempt }) => attempt))]

describe('one and the same job', () => {
  const spec: JobSpecInput = {
    repository: 'acme/web',
    setup: ['echo "set up by $(id -un)"'],
    steps: [
      { name: 'change', run: 'printf "changed\\n" >> README.md; mkdir -p docs; echo made > docs/made.txt; echo done; echo noise >&2' },
      { name: 'check', run: 'sh check.sh && cat docs/made.txt' },
    ],
    push: { message: 'Change it' },
    timeout: '2m',
  }

  it.each(names)('runs, pushes and promotes at %s, and leaves no sandbox there', { timeout: patience }, async (name) => {
    const before = await serverOf(name).state()
    const job = await deployment.queue.enqueue({ ...spec, promote: { to: `done/${name}` }, providers: { allow: [name] } })
    const result = await job.result({ timeoutMs: 120_000 })
    expect(result).toMatchObject({
      status: 'succeeded',
      error: null,
      baseSha: base,
      promoted: { to: `done/${name}`, sha: result.commit, result: 'created' },
      steps: [
        { name: 'change', exitCode: 0, stdoutTail: 'done\n', stderrTail: 'noise\n' },
        { name: 'check', exitCode: 0, stdoutTail: 'made\n' },
      ],
      attempts: [{ provider: name, outcome: 'succeeded', error: null }],
      diff: { files: 2, paths: ['README.md', 'docs/made.txt'] },
    })
    const promoted = await deployment.checkout('acme/web', `done/${name}`, false)
    expect(await readFile(join(promoted, 'README.md'), 'utf8')).toBe('hello\nchanged\n')
    expect(await git(promoted, 'log', '-1', '--format=%(trailers:key=Agent-Job,valueonly)')).toBe(job.jobId)
    const pushed = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(pushed, 'rev-parse', 'HEAD')).toBe(result.commit)
    // The provider's own count, not the consumer's word; a job's end does not wait for a slow kill.
    await until('its sandbox is gone', async () => (await serverOf(name).state()).live === 0)
    const after = await serverOf(name).state()
    expect(after).toMatchObject({ live: 0, created: before.created + 1, ended: { killed: before.ended.killed + 1 } })
  })

  // As many at each, since none of them makes more of a call than one: CI counts at the one whose SDK does most by itself.
  it.each(spanning([['e2b', 'start'], ['modal', 'exec'], ['daytona', 'execute']] as const, 'modal'))('of one step takes seven calls of %s', { timeout: patience }, async (name, exec) => {
    const before = await serverOf(name).state()
    // A step that prints nothing is told of once, when it has ended.
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo work > work.txt'], providers: { allow: [name] } })
    expect(await job.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded' })
    await until('its sandbox is gone', async () => (await serverOf(name).state()).live === 0)
    const { calls } = await serverOf(name).state()
    const made = (call: string) => (calls[call] ?? 0) - (before.calls[call] ?? 0)
    // Install and look around; clone; start and read; commit; push.
    expect({ create: made('create'), exec: made(exec), kill: made(name === 'daytona' ? 'delete' : 'kill') }).toEqual({ create: 1, exec: 5, kill: 1 })
  })

  it('ends with the same tree at all three', async () => {
    const trees = await Promise.all(names.map(async (name) => git(await deployment.checkout('acme/web', `done/${name}`, false), 'rev-parse', 'HEAD^{tree}')))
    expect(new Set(trees).size).toBe(1)
  })
})

it('finds its repository at the same absolute path at a provider whose home is another', { timeout: patience }, async () => {
  const where = 'echo "$HOME has $(pwd -P), $(cd ~/repository && pwd -P)"; pwd -P >> where.txt'
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [{
      name: 'agent',
      run: `mkdir ~/.agent; ${where}; pwd -P > ~/.agent/session; git worktree add -q ../beside; echo open > ../beside/open.txt; git worktree add -q ~/there; echo began; sleep 600`,
      resume: `${where}; cat ~/.agent/session ../beside/open.txt; git worktree list --porcelain | sed -n 's/^worktree //p'`,
    }],
    checkpoint: { everySeconds: 1, paths: ['~/.agent'] },
    providers: { allow: ['e2b', 'modal'], prefer: ['e2b', 'modal'] },
    timeout: '3m',
  })
  let before: string | null = null
  await until('a checkpoint that was begun after the step was at work', async () => {
    const { checkpointSha } = await job.status()
    if (!outputOf(await linesOf(job), 'agent').includes('began')) return false
    before ??= checkpointSha ?? ''
    return checkpointSha !== null && checkpointSha !== before
  }, patience)
  await serverOf('e2b').killSandbox((await job.status()).sandboxId!)
  const result = await job.result({ timeoutMs: 150_000 })
  const lines = await linesOf(job)
  const told = lines.filter(({ stream }) => stream === 'system').map(({ text }) => text).join('')
  expect(result, told).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'e2b', outcome: 'lost' }, { provider: 'modal', outcome: 'succeeded' }] })
  const path = '/home/user/repository'
  const [e2bHome, modalHome] = [/^(\S+) has/.exec(outputOf(lines, 'agent'))?.[1], /began\n(\S+) has/.exec(outputOf(lines, 'agent'))?.[1]]
  if (!(await bubblewrapWorks())) return
  expect([e2bHome, modalHome]).toEqual(['/home/user', '/root'])
  // The worktrees beside it came along, each to where it was: by the folder, or by the home.
  expect(outputOf(lines, 'agent')).toBe(`/home/user has ${path}, ${path}\nbegan\n/root has ${path}, ${path}\n${path}\nopen\n${path}\n/home/user/beside\n/home/user/there\n`)
  expect(told).not.toContain('do not find them')
  const folder = await deployment.checkout('acme/web', result.branch!, true)
  expect(await readFile(join(folder, 'where.txt'), 'utf8')).toBe(`${path}\n${path}\n`)
})

it('starts on E2B, loses its sandbox there in the middle of a step, meets a full Modal and ends on Daytona', { timeout: patience }, async () => {
  await fillModal()
  const before = Object.fromEntries(await Promise.all(servers.map(async (server) => [server.name, await server.state()] as const)))
  const partsBefore = 5
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [
      // What lies beside the work tree stays behind with its sandbox; what lies in it must come along.
      { name: 'prepare', run: `: > "$HOME/first-sandbox"; echo "made once: $$ $(date +%s%N)" > prepared.txt; cat prepared.txt` },
      {
        name: 'work',
        run: [
          `[ -f "$HOME/first-sandbox" ] && where=first || where=later`,
          'touch parts.txt',
          'while [ "$(wc -l < parts.txt)" -lt 8 ]; do',
          '  echo "part $(( $(wc -l < parts.txt) + 1 )) $where" >> parts.txt; tail -n 1 parts.txt',
          `  [ "$where" = later ] || [ "$(wc -l < parts.txt)" -lt ${partsBefore} ] || sleep 600`,
          'done',
        ].join('\n'),
      },
      { name: 'report', run: 'cat prepared.txt parts.txt' },
    ],
    push: { message: 'Finish elsewhere' },
    promote: { to: 'done/mission' },
    checkpoint: { everySeconds: 1 },
    providers: { prefer: [...names] },
    timeout: '3m',
  })

  await checkpointWith(job, 'parts.txt', partsBefore)
  const { provider, sandboxId } = await job.status()
  expect(provider).toBe('e2b')
  await serverOf('e2b').killSandbox(sandboxId!)

  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({
    status: 'succeeded',
    error: null,
    steps: [{ name: 'prepare', exitCode: 0 }, { name: 'work', exitCode: 0 }, { name: 'report', exitCode: 0 }],
    attempts: [
      { provider: 'e2b', sandboxId, outcome: 'lost', error: { kind: 'sandbox-lost' } },
      { provider: 'daytona', outcome: 'succeeded', error: null },
    ],
    promoted: { to: 'done/mission', sha: result.commit },
  })

  const lines = await linesOf(job)
  // A step that was done is not run again; the one that was under way goes on from what the checkpoint held.
  expect(attemptsOf(lines, 'prepare')).toEqual([1])
  expect(attemptsOf(lines, 'work')).toEqual([1, 2])
  const parts = Array.from({ length: 8 }, (_, index) => `part ${index + 1} ${index < partsBefore ? 'first' : 'later'}\n`).join('')
  expect(outputOf(lines, 'report')).toBe(`${outputOf(lines, 'prepare')}${parts}`)
  const promoted = await deployment.checkout('acme/web', 'done/mission', false)
  expect(await readFile(join(promoted, 'parts.txt'), 'utf8')).toBe(parts)
  expect(await git(promoted, 'log', '--format=%s', `${base}..HEAD`)).toBe('Finish elsewhere')

  // The job's log tells why it passed Modal by, and the servers count the same.
  const told = lines.filter(({ stream }) => stream === 'system').map(({ text }) => text).join('')
  expect(told).toMatch(/sandbox at e2b given up \(sandbox-lost\)[^]*modal had no place \(capacity\)[^]*goes on at daytona from checkpoint/)
  await until('its sandbox is gone', async () => (await serverOf('daytona').state()).live === 0)
  const after = Object.fromEntries(await Promise.all(servers.map(async (server) => [server.name, await server.state()] as const)))
  const difference = (name: string) => ({
    created: after[name]!.created - before[name]!.created,
    crashed: after[name]!.ended.crashed - before[name]!.ended.crashed,
    killed: after[name]!.ended.killed - before[name]!.ended.killed,
  })
  expect(difference('e2b')).toEqual({ created: 1, crashed: 1, killed: 0 })
  expect(difference('modal')).toEqual({ created: 0, crashed: 0, killed: 0 })
  expect(after['modal']!.calls['create']).toBeGreaterThan(before['modal']!.calls['create']!)
  expect(difference('daytona')).toEqual({ created: 1, crashed: 0, killed: 1 })
  expect(after['daytona']!.live).toBe(0)
})

/** Another customer of the same workspace takes all that Modal has. */
async function fillModal(): Promise<void> {
  const modal = providers.find(({ provider }) => provider.name === 'modal')!.provider
  for (let taken = 1; taken <= modalSize; taken++) {
    const request: SandboxRequest = {
      name: `another-customer-${taken}`,
      tags: sandboxTags({ deployment: 'another', runId: `job-${taken}`, attempt: 1 }),
      image: undefined,
      resources: {},
      lifetimeMs: 600_000,
      network: 'open',
      gitHosts: [],
    }
    await modal.create(request, { timeoutMs: 30_000 })
  }
}

/** Waits until the first attempt's checkpoint branch holds a file with that many lines. */
async function checkpointWith(job: JobHandle, path: string, lines: number): Promise<void> {
  let looked: string | null = null
  await until(`a checkpoint with ${lines} lines in ${path}`, async () => {
    const { checkpointSha, step } = await job.status()
    if (checkpointSha === null || checkpointSha === looked || step?.startsWith('2/') !== true) return false
    looked = checkpointSha
    const folder = await deployment.checkout('acme/web', checkpointBranch(job.jobId, 1, 1), true)
    const text = await readFile(join(folder, path), 'utf8').catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
      throw error
    })
    return text.split('\n').length - 1 === lines
  })
}
