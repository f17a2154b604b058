import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { whole } from '../whole.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { Provider } from '../../src/providers/provider.js'
import { altered, startDeployment, until as untilFor, type Deployment } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// Keys that are refused to one consumer, and changed while it runs.
const until = (what: string, condition: () => boolean | Promise<boolean>) => untilFor(what, condition, 100_000)
const refusal = () => Promise.reject(new InfrastructureError({ kind: 'auth', source: 'local-a', message: 'local-a: the key is refused' }))

describe('at the git host', () => {
  let deployment: Deployment
  beforeEach(async () => {
    deployment = await startDeployment({ limits: [4] })
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  })
  afterEach(() => deployment.close())

  const stale = generateDevelopmentKeys().privateKey
  function gitWith(key: () => string): CodeStorageHost {
    return new CodeStorageHost({ org: 'acme', privateKey: key, storageUrl: deployment.storage.url, apiUrl: deployment.storage.apiUrl })
  }

  it.each([...(whole ? [[0, 'succeeded'] as const] : []), [3, 'failed'] as const])('a git key that goes stale under a running job that exits with %s costs no attempt: it waits with that reason, and goes on once the key is right', async (exitCode, status) => {
    let key = deployment.privateKey
    const consumer = await deployment.startConsumer({ git: gitWith(() => key) })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo new > new.txt; exit ' + String(exitCode)] })
    await until('the step', async () => (await job.status()).step !== null)
    const { sandboxId } = await job.status()
    key = stale
    await deployment.providers[0]!.exec(sandboxId!, { script: ': > "$HOME/go"' }, { timeoutMs: 10_000 })
    await until('the reason', async () => (await job.status()).reason?.startsWith('waiting for a consumer whose key is taken (git: ') === true)
    expect((await job.status()).reason).toContain('a key in one of keyFiles is read anew; one in the environment needs a rolling restart')
    expect(await deployment.queue.consumers()).toMatchObject([{ consumer: consumer.id, troubles: [{ of: 'git' }] }])
    const another = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
    await until('its reason', async () => (await another.status()).reason?.startsWith('waiting for a consumer whose key is taken (git: ') === true)
    key = deployment.privateKey
    expect(await job.result({ timeoutMs: 110_000 })).toMatchObject({ status, attempts: [{ sandboxId }], branch: `agent/${job.jobId}`, diff: { paths: ['new.txt'] } })
    expect(await another.result({ timeoutMs: 110_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
    await until('the trouble to be over', async () => (await deployment.queue.consumers()).every(({ troubles }) => troubles.length === 0))
  })
})

describe('at a provider', () => {
  let inMemory: InMemoryDeployment
  beforeEach(async () => void (inMemory = await startInMemoryDeployment({ limits: [4] })))
  afterEach(() => inMemory.close())

  it('a provider’s key that is refused to one consumer closes the provider to nobody else, and is tried again', async () => {
    let isStale = true
    const real = inMemory.providers[0]!
    const provider: Provider = real
    await inMemory.startConsumer({
      providers: [
        { provider: altered<Provider>(provider, { create: (...call) => (isStale ? refusal() : provider.create(...call)), check: (...call) => (isStale ? refusal() : provider.check(...call)) }), limit: { sandboxes: 4 } },
        // Something that it can use.
        { provider: altered<Provider>(provider, { name: 'spare' }), limit: { sandboxes: 1 } },
      ],
    })
    const spec = { repository: 'acme/web', steps: ['true'], providers: { allow: ['local-a'] } }
    const waits = await inMemory.queue.enqueue(spec)
    await until('the reason', async () => (await waits.status()).reason?.startsWith('waiting for a consumer whose key is taken (local-a: ') === true)
    await inMemory.startConsumer()
    const jobs = await inMemory.queue.enqueueMany(Array.from({ length: 6 }, () => spec))
    for (const job of [waits, ...jobs]) expect(await job.result({ timeoutMs: 110_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a', outcome: 'succeeded' }] })
    expect((await inMemory.queue.providers()).find((load) => load.provider === 'local-a')).toMatchObject({ breaker: 'closed' })
    isStale = false
    await until('the trouble to be over', async () => (await inMemory.queue.consumers()).every(({ troubles }) => troubles.length === 0))
  })

  it('a provider’s key that goes stale takes the sandbox of no running job, and the attempt of none that is being placed', async () => {
    let isStale = false
    const real = inMemory.providers[0]!
    const provider: Provider = real
    const checked = altered<Provider>(provider, {
      create: (...call) => (isStale ? refusal() : provider.create(...call)),
      exec: (...call) => (isStale ? refusal() : provider.exec(...call)),
      get: (...call) => (isStale ? refusal() : provider.get(...call)),
      check: (...call) => (isStale ? refusal() : provider.check(...call)),
    })
    await inMemory.startConsumer({ providers: [{ provider: checked, limit: { sandboxes: 4 } }], settings: { readWaitMs: 200 } })
    const job = await inMemory.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'] })
    await until('the step', async () => (await job.status()).step !== null)
    const { sandboxId } = await job.status()
    isStale = true
    const placed = await inMemory.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
    for (const each of [job, placed]) await until('the reason', async () => (await each.status()).reason?.startsWith('waiting for a consumer whose key is taken (local-a: ') === true)
    isStale = false
    real.finish(sandboxId!)
    expect(await job.result({ timeoutMs: 110_000 })).toMatchObject({ status: 'succeeded', attempts: [{ sandboxId }] })
    expect(await placed.result({ timeoutMs: 110_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  })
})
