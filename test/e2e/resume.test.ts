import { afterEach, describe, expect, it } from 'vitest'
import { LocalProvider } from '../../src/providers/local/index.js'
import type { JobHandle } from '../../src/producers/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { whole } from '../whole.js'
import { altered, git, startDeployment, until, type Deployment } from './deployment.js'

const isolates = await bubblewrapWorks()
let deployment: Deployment
afterEach(async () => await deployment.close())

async function logOf(job: JobHandle): Promise<string> {
  let log = ''
  for await (const line of job.logs()) log += line.text
  return log
}

// Remembers its turns in its home, in a file that is named after the folder it works in, as agents do.
const agent = {
  name: 'agent',
  run: 'mkdir -p ~/.agent/sessions && echo "turn 1 of attempt $SWITCHYARD_ATTEMPT" >> ~/.agent/sessions/s.jsonl && echo one > one.txt && echo began; while [ ! -e ~/never ]; do sleep 0.1; done',
  resume: 'echo "turn 2 of attempt $SWITCHYARD_ATTEMPT, resumed $SWITCHYARD_RESUMED" >> ~/.agent/sessions/s.jsonl && cp ~/.agent/sessions/s.jsonl session.txt && pwd -P > where.txt',
}

describe('a step with resume', () => {
  it('goes on with what it remembers when its sandbox is killed within it', { timeout: 240_000 }, async () => {
    deployment = await startDeployment()
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    await deployment.startConsumer()
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      setup: ['mkdir -p ~/.agent'],
      steps: [agent, { name: 'after', run: 'echo "after: $SWITCHYARD_ATTEMPT ${SWITCHYARD_RESUMED-no}" > after.txt' }],
      checkpoint: { everySeconds: 1, paths: ['~/.agent/sessions'] },
    })
    await until('a checkpoint within the step', async () => (await job.status()).checkpointSha !== null && (await logOf(job)).includes('began'), 120_000)
    const { provider, sandboxId } = await job.status()
    await deployment.providers.find(({ name }) => name === provider)!.kill(sandboxId!, { timeoutMs: 20_000 })
    const result = await job.result({ timeoutMs: 120_000 })
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'lost' }, { outcome: 'succeeded' }], unsaved: [], kept: [] })
    expect(await logOf(job)).toContain('agent is resumed')
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'show', 'HEAD:session.txt')).toBe('turn 1 of attempt 1\nturn 2 of attempt 2, resumed 1')
    expect(await git(folder, 'show', 'HEAD:one.txt')).toBe('one')
    expect(await git(folder, 'show', 'HEAD:after.txt')).toBe('after: 2 no')
    // What lies under checkpoint.paths is no part of the work.
    expect(result.diff?.paths).toEqual(['after.txt', 'one.txt', 'session.txt', 'where.txt'])
  })

  it.skipIf(!isolates)('keeps its job away from sandboxes without a file system of their own while another provider has room', { timeout: 240_000 }, async () => {
    deployment = await startDeployment({ limits: [] })
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const stateDir = `${deployment.dir}/sandboxes`
    const plain = new LocalProvider({ name: 'plain', stateDir, isolation: 'none' })
    const own = new LocalProvider({ name: 'own', stateDir })
    // By the configuration's order, and by what the job itself prefers, it would go there.
    await deployment.startConsumer({ providers: [{ provider: plain, limit: { sandboxes: 3 } }, { provider: own, limit: { sandboxes: 1 } }], policy: 'priority' })
    const waits = { ...agent, run: `${agent.run.slice(0, agent.run.indexOf('; while'))}; while [ ! -e go ]; do sleep 0.1; done` }
    const spec = { repository: 'acme/web', steps: [waits], checkpoint: { everySeconds: 1, paths: ['~/.agent'] }, providers: { prefer: ['plain'] } }
    const begins = async (job: JobHandle) => await until('it is at work', async () => (await logOf(job)).includes('began'), 120_000)
    const first = await deployment.queue.enqueue({ ...spec, checkpoint: { ...spec.checkpoint, everySeconds: 3_600 } })
    await begins(first)
    expect((await first.status()).provider).toBe('own')
    // Where nothing else is free it is as good as waiting.
    const second = await deployment.queue.enqueue(spec)
    await begins(second)
    expect((await second.status()).provider).toBe('plain')
    const other = await deployment.queue.enqueue({ ...spec, steps: ['true'], push: false })
    expect(await other.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'plain' }] })
    // Lost there, with room elsewhere, it goes elsewhere; its log says what that means for agents.
    const { sandboxId: firstSandbox } = await first.status()
    await own.exec(firstSandbox!, { script: ': > ~/repository/go' }, { timeoutMs: 20_000 })
    expect(await first.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'own' }] })
    const saved = async () => (await second.status()).checkpointSha
    await until('a checkpoint within the step', async () => (await saved()) !== null, 60_000)
    await plain.kill((await second.status()).sandboxId!, { timeoutMs: 20_000 })
    expect(await second.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'plain', outcome: 'lost' }, { provider: 'own', outcome: 'succeeded' }] })
    expect(await logOf(second)).toMatch(/the repository is at \/home\/user\/repository here and was at \S+\/repository: agents that know their conversations by the folder do not find them/)
    await Promise.all([plain.close(), own.close()])
  })

  /** A provider of which every sandbox of the first kind is told to end soon once `sayEnd` is called; it never does in truth. */
  function ending(name: string) {
    const real = new LocalProvider({ name, stateDir: `${deployment.dir}/ending` })
    let endsAtMs: number | undefined
    const first = new Set<string>()
    const provider = altered<Provider>(real, {
      create: async (request, options) => {
        const info = await real.create({ ...request, lifetimeMs: 600_000 }, options)
        if (endsAtMs === undefined) first.add(info.id)
        return info
      },
      extend: async (id, lifetimeMs, options) => {
        await real.extend(id, Math.max(lifetimeMs, 600_000), options)
        return first.has(id) && endsAtMs !== undefined ? { expiresAtMs: endsAtMs, lifetimeEndsAtMs: endsAtMs } : undefined
      },
    })
    return { provider, sayEnd: (inMs: number) => void (endsAtMs ??= Date.now() + inMs) }
  }
  // The heartbeat that learns of the end comes once a second.
  const settings = { sandboxLifetimeMs: 3_000, readWaitMs: 500 }

  it('moves before its sandbox ends, with the next one ready first and nothing lost', { timeout: 240_000 }, async () => {
    deployment = await startDeployment({ limits: [] })
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const [short, { provider: real }] = [ending('short'), ending('long')]
    // While the job has two sandboxes, why does the next one of its tenant's wait?
    const reasons: (string | null | undefined)[] = []
    const long = altered<Provider>(real, {
      create: async (...call) => {
        const info = await real.create(...call)
        reasons.push((await beside[1]?.status())?.reason)
        return info
      },
    })
    const beside: JobHandle[] = []
    await deployment.startConsumer({ providers: [short.provider, long].map((provider, index) => ({ provider, limit: { sandboxes: [1, 3][index]! } })), policy: 'priority', settings, tenants: { acme: { weight: 1, cap: 2 } } })
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      // Ends well when it is told to: its exit code then is not the step's.
      steps: [{ ...agent, run: `trap 'echo last > last.txt; exit 0' TERM; ${agent.run}` }],
      checkpoint: { everySeconds: 3_600, paths: ['~/.agent/sessions'] },
      timeout: '10m',
      tenant: 'acme',
    })
    await until('the agent is at work', async () => (await logOf(job)).includes('began'), 120_000)
    // Its tenant may have one job more: the pair counts once, so this one begins.
    beside[0] = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false, tenant: 'acme', timeout: '10m' })
    await until('the other job runs', async () => (await beside[0]!.status()).phase === 'steps', 60_000)
    beside[1] = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, tenant: 'acme' })
    reasons.length = 0
    short.sayEnd(30_000)
    const result = await job.result({ timeoutMs: 120_000 })
    const log = await logOf(job)
    expect(result, log).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'short', outcome: 'moved', error: null }, { provider: 'long', outcome: 'succeeded' }] })
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'show', 'HEAD:session.txt')).toBe('turn 1 of attempt 1\nturn 2 of attempt 2, resumed 1')
    // What it wrote after it was told to end came along, though the next regular checkpoint was an hour away.
    expect(await git(folder, 'show', 'HEAD:last.txt')).toBe('last')
    expect(log).toMatch(/the job is going to move[\s\S]*left the sandbox at short before its end, with all its work saved; goes on at long[\s\S]*agent is resumed/)
    expect(reasons[0]).toBe('waiting for tenant acme: 2 of at most 2 jobs are running')
    // The moved job has ended, and with it one of the two.
    expect(await beside[1].result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await beside[0].cancel('seen')
    await beside[0].result({ timeoutMs: 150_000 })
    await until('the places are free', async () => (await deployment.queue.providers()).every(({ used }) => used === 0))
    for (const provider of [short.provider, long]) for await (const left of provider.list({}, { timeoutMs: 10_000 })) expect(left).toBeUndefined()
    await Promise.all([short.provider.close(), long.close()])
  })

  // Both ways to the next sandbox end in the same move: CI goes the one above.
  it.runIf(whole)('waits for a place, said as its reason, when there is none for the next sandbox, and leaves in time all the same', { timeout: 240_000 }, async () => {
    deployment = await startDeployment({ limits: [] })
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const short = ending('short')
    await deployment.startConsumer({ providers: [{ provider: short.provider, limit: { sandboxes: 1 } }], settings })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [agent], checkpoint: { everySeconds: 3_600, paths: ['~/.agent/sessions'] }, timeout: '10m' })
    await until('the agent is at work', async () => (await logOf(job)).includes('began'), 120_000)
    short.sayEnd(30_000)
    await until('the reason', async () => (await job.status()).reason?.startsWith('waiting for capacity: short full') ?? false, 60_000)
    const result = await job.result({ timeoutMs: 120_000 })
    expect(result, await logOf(job)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'moved' }, { outcome: 'succeeded' }] })
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'show', 'HEAD:session.txt')).toBe('turn 1 of attempt 1\nturn 2 of attempt 2, resumed 1')
    await short.provider.close()
  })
})
