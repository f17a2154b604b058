import { Queue } from 'bullmq'
import { expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { AgentQueue, JobHandle } from '../../src/producers/index.js'
import { sandboxTags, type Provider } from '../../src/providers/provider.js'
import { createRedis, Keys, ReadyJobs, SlotLedger, SlotOwners } from '../../src/store/index.js'
import { after } from '../undo.js'
import { altered, startDeployment, until, type Deployment } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

let queue: AgentQueue
/** What is shown of places and sandboxes alone needs no machines. */
async function inMemory(limits: readonly number[]): Promise<InMemoryDeployment> {
  const deployment = await startInMemoryDeployment({ limits })
  after(() => deployment.close())
  queue = deployment.queue
  return deployment
}
async function withGit(limits: readonly number[]): Promise<Deployment> {
  const deployment = await startDeployment({ limits })
  after(() => deployment.close())
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  queue = deployment.queue
  return deployment
}

const call = { timeoutMs: 10_000 }
const noAnswer = (kind: 'transient' | 'provider-down') => new InfrastructureError({ kind, source: 'local-a', message: 'local-a: no answer' })

async function idsAt(provider: Provider): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of provider.list({}, call)) ids.push(id)
  return ids
}

async function used(): Promise<Record<string, number>> {
  return Object.fromEntries((await queue.providers()).map((load) => [load.provider, load.used]))
}

function settings(fields: object = {}) {
  return { reapIntervalMs: 1_000, reapGraceMs: 0, callTimeoutMs: 2_000, pollMs: 1_000, ...fields }
}

it('a sandbox that can’t be killed at its job’s end keeps its place, and the reaper kills it when it can', async () => {
  const deployment = await inMemory([1])
  const local = deployment.providers[0]!
  let refuses = true
  const stubborn = altered(local, { kill: (id) => (refuses ? Promise.reject(noAnswer('transient')) : local.kill(id)) })
  await deployment.startConsumer({ providers: [{ provider: stubborn, limit: { sandboxes: 1 } }], settings: settings() })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  const next = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
  await until('a round of the reaper', () => deployment.logs.some((line) => line.includes('sandbox not reaped')))
  expect(await used()).toEqual({ 'local-a': 1 })
  expect((await next.status()).state).toBe('waiting')
  refuses = false
  expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  await until('nothing to be left', async () => (await idsAt(local)).length === 0 && (await used())['local-a'] === 0)
})

it.each([
  ['never answered', noAnswer('provider-down')],
  ['refused after it was made', new InfrastructureError({ kind: 'capacity', source: 'local-a', message: 'local-a: full', sandboxMayExist: true })],
])('a sandbox of a create that was %s keeps its place until it is killed', async (_what, failure) => {
  const deployment = await inMemory([1, 1])
  const [first, second] = [deployment.providers[0]!, deployment.providers[1]!]
  let answers = false
  // Nor can it be killed meanwhile: else the reaper, which comes every second, may have freed the place before this looks.
  const silent = altered(first, {
    create: async (request) => {
      const info = await first.create(request)
      if (!answers) throw failure
      return info
    },
    kill: (id) => (answers ? first.kill(id) : Promise.reject(noAnswer('transient'))),
  })
  await deployment.startConsumer({
    providers: [{ provider: silent, limit: { sandboxes: 1 } }, { provider: second, limit: { sandboxes: 1 } }],
    settings: settings(),
  })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 4'], providers: { prefer: ['local-a'] } })
  await until('the job to be elsewhere', async () => (await job.status()).provider === 'local-b' && (await job.status()).step !== null)
  await until('a round of the reaper', () => deployment.logs.some((line) => line.includes('sandbox not reaped')))
  expect((await used())['local-a']).toBe(1)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a', outcome: 'unavailable', sandboxId: null }, { provider: 'local-b' }] })
  answers = true
  await until('nothing to be left', async () => (await idsAt(first)).length === 0 && (await used())['local-a'] === 0, 45_000)
})

it('a job whose place is freed as forgotten before it begins has its turn again, and what another has by then stays that one’s', async () => {
  const deployment = await inMemory([2])
  const redis = createRedis({ url: deployment.redis.url }, 'commands')
  try {
    const owners = new SlotOwners(redis, new Keys())
    const spec: JobSpecInput = { repository: 'acme/web', tenant: 'acme', concurrency: { key: 'web' }, push: false, steps: ['sleep 600'] }
    const others: JobHandle[] = []
    const freed: boolean[] = []
    // Between the choice of a place for the job and the record that needs it, a reaper without patience comes by, and another job.
    const slow = altered(inMemoryGitHost, {
      resolve: async (...question) => {
        if (freed.length === 0) {
          for (const slot of (await owners.bound('local-a')).slots) freed.push(await owners.free(slot))
          const other = await queue.enqueue(spec)
          others.push(other)
          await until('the other one to run', async () => (await other.status()).step !== null, 45_000)
        }
        return await inMemoryGitHost.resolve(...question)
      },
    })
    await deployment.startConsumer({ git: slow, tenants: { acme: { weight: 1, cap: 1 } } })
    const job = await queue.enqueue(spec)
    await until('it waits again', async () => others.length === 1 && /^waiting/.test((await job.status()).reason ?? ''), 60_000)
    expect(freed).toEqual([true])
    expect(await job.status()).toMatchObject({ state: 'waiting', step: null })
    expect(await used()).toEqual({ 'local-a': 1 })
    await others[0]?.cancel('seen')
    await until('its step', async () => (await job.status()).step !== null, 45_000)
    expect(await used()).toEqual({ 'local-a': 1 })
    expect(await new ReadyJobs(redis, new Keys()).tenant('acme')).toMatchObject({ running: 1 })
    await job.cancel('seen')
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', attempts: [{ provider: 'local-a' }] })
    await until('its place to be free', async () => (await used())['local-a'] === 0)
  } finally {
    redis.disconnect()
  }
})

it('a job that is removed from the queue while it runs ends as cancelled, and nothing of it is left', async () => {
  const deployment = await withGit([1])
  await deployment.startConsumer({ settings: settings() })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x > x.txt', 'sleep 600'] })
  await until('its second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
  const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
  try {
    await bull.obliterate({ force: true })
  } finally {
    await bull.close()
  }
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: 'the job was removed from the queue' }, steps: [{ exitCode: 0 }], attempts: [{ outcome: 'cancelled' }] })
  // Its last checkpoint is kept, as a cancelled job's is.
  expect(await deployment.checkout('acme/web', result.branch!, true)).not.toBe('')
  const local = deployment.providers[0]!
  await until('nothing to be left', async () => (await idsAt(local)).length === 0 && (await used())['local-a'] === 0)
  const next = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
  expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
})

it('a consumer’s reaper kills what no run knows, and leaves other deployments’ sandboxes', async () => {
  const deployment = await inMemory([4])
  const local = deployment.providers[0]!
  const request = { image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] } as const
  const forgotten = await local.create({ ...request, name: 'forgotten', tags: sandboxTags({ deployment: 'test', runId: 'gone', attempt: 1 }) })
  const theirs = await local.create({ ...request, name: 'theirs', tags: sandboxTags({ deployment: 'other', runId: 'gone', attempt: 1 }) })
  const listings: unknown[] = []
  await deployment.startConsumer({ settings: settings(), onListing: (listing) => void listings.push(listing) })
  await until('the forgotten one to be killed', async () => (await local.get(forgotten.id)) === undefined)
  expect(await local.get(theirs.id)).toBeDefined()
  await until('the listing to be told', () => listings.length > 0)
  expect(listings[0]).toEqual({ provider: 'local-a', own: 1, foreign: 1 })
  const redis = createRedis({ url: deployment.redis.url }, 'commands')
  try {
    await until('the ledger to know', async () => (await new SlotLedger(redis, new Keys()).loads([{ provider: 'local-a' }]))[0]?.foreign === 1)
  } finally {
    redis.disconnect()
  }
})

it('the branches of ended jobs go after their retention, but the one that a job keeps', async () => {
  const deployment = await withGit([4])
  await deployment.startConsumer({ settings: settings({ branchRetentionMs: 0 }) })
  const heads = (jobId: string) =>
    Promise.all([`agent/${jobId}`, `agent/${jobId}-1.2`].map((name) => deployment.host.branchHead('acme/web', { name, ephemeral: true }, call).then((sha) => sha !== null)))
  const run = async (push: { keep?: boolean }) => {
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo new > new.txt; exit 1'], attempts: 2, push })
    await job.result({ timeoutMs: 150_000 })
    return job.jobId
  }
  const [kept, dropped] = await Promise.all([run({ keep: true }), run({})])
  await until('the branches to go', async () => JSON.stringify([await heads(kept), await heads(dropped)]) === '[[false,true],[false,false]]')
})
