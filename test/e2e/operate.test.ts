import { describe, expect, it } from 'vitest'
import type { AgentQueue } from '../../src/producers/index.js'
import { after } from '../undo.js'
import { git, startDeployment, until } from './deployment.js'
import { startInMemoryDeployment } from './in-memory-deployment.js'

const by = { id: 'operator', name: 'anna' }
const textOf = async (queue: AgentQueue, jobId: string) => {
  let text = ''
  for await (const line of queue.job(jobId).logs({ follow: false })) text += line.text
  return text
}

describe('a provider that is drained', () => {
  it('is left by what runs there when that is asked, each at its next checkpoint; what may run there only waits, with the reason', { timeout: 240_000 }, async () => {
    const deployment = await startDeployment({ limits: [3, 3] })
    after(() => deployment.close())
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    await deployment.startConsumer({ policy: 'priority', settings: { readWaitMs: 500 } })
    const { queue } = deployment
    const common = { repository: 'acme/web', timeout: '10m', checkpoint: { everySeconds: 3_600, paths: ['~/.agent'] } }
    const wait = 'until [ -e ~/repository/go ]; do sleep 0.1; done'
    const [resuming, stepping, staying] = await Promise.all([
      queue.enqueue({ ...common, steps: [{ name: 'agent', run: 'mkdir -p ~/.agent; echo remembered > ~/.agent/state; echo one > one.txt; echo began; sleep 600', resume: 'cat ~/.agent/state > two.txt; echo resumed' }] }),
      queue.enqueue({ ...common, steps: [{ name: 'first', run: `echo one > one.txt; echo began; ${wait}; rm ~/repository/go` }, { name: 'second', run: 'cat one.txt; echo two > two.txt' }] }),
      queue.enqueue({ ...common, steps: [{ name: 'only', run: `echo began; ${wait}; rm ~/repository/go` }, 'true'], providers: { allow: ['local-a'] } }),
    ])
    for (const { jobId } of [resuming, stepping, staying]) await until(`${jobId} is at work`, async () => (await textOf(queue, jobId)).includes('began'), 120_000)
    expect((await Promise.all([resuming, stepping, staying].map(async (job) => (await job.status()).provider)))).toEqual(['local-a', 'local-a', 'local-a'])

    expect(await queue.operations.drainProvider('local-a', { by, reason: 'maintenance', move: true })).toMatchObject({ changed: true, ignoredBy: [] })
    // No step of it has ended, and it goes on from within at once.
    expect(await resuming.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a', outcome: 'moved' }, { provider: 'local-b', outcome: 'succeeded' }] })
    const log = await textOf(queue, resuming.jobId)
    expect(log).toContain('local-a is drained by anna: maintenance: the job is going to move')
    expect(log).toContain('left the sandbox at local-a, which is drained, with all its work saved; goes on at local-b')
    const folder = await deployment.checkout('acme/web', (await resuming.result()).branch!, true)
    expect(await git(folder, 'show', 'HEAD:two.txt')).toBe('remembered')

    // The others move after the step that they are in, where they may.
    for (const job of [stepping, staying]) {
      const { sandboxId, provider } = await job.status()
      expect(provider).toBe('local-a')
      await deployment.providers[0]!.exec(sandboxId!, { script: ': > ~/repository/go' }, { timeoutMs: 20_000 })
    }
    expect(await stepping.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a', outcome: 'moved' }, { provider: 'local-b' }], steps: [{ name: 'first', exitCode: 0 }, { name: 'second', exitCode: 0 }] })
    expect(await staying.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a', outcome: 'succeeded' }] })

    const only = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, providers: { allow: ['local-a'] } })
    const free = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
    expect(await free.result({ timeoutMs: 150_000 })).toMatchObject({ attempts: [{ provider: 'local-b' }] })
    await until('it says why it waits', async () => (await only.status()).reason === 'waiting for capacity: local-a drained by anna: maintenance')
    await queue.operations.resumeProvider('local-a', { by })
    expect(await only.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'local-a' }] })
    await until('the places are free', async () => (await queue.providers()).every(({ used }) => used === 0))
  })
})

it('what operators said holds for consumers that come later, and a paused tenant’s jobs go on where they run', { timeout: 300_000 }, async () => {
  const inMemory = await startInMemoryDeployment({ limits: [4] })
  after(() => inMemory.close())
  const { queue } = inMemory
  const first = await inMemory.startConsumer()
  const running = await queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false, tenant: 'acme' })
  await until('it runs', async () => (await running.status()).step !== null, 60_000)
  await queue.operations.pauseTenant('acme', { by, reason: 'leak' })
  await queue.operations.limitProvider('local-a', 1, { by })
  const waiting = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, tenant: 'acme' })
  const other = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, tenant: 'globex' })
  // All of them are replaced, and Redis is all that remembers.
  await first.stop()
  await inMemory.startConsumer()
  await until('the reasons are there', async () => {
    const [own, its] = await queue.statuses([waiting.jobId, other.jobId])
    return own?.reason === 'waiting: tenant acme is paused by anna: leak' && its?.reason === 'waiting for capacity: local-a full (1/1; limited to 1 of 4 by anna)'
  }, 300_000)
  const { sandboxId } = await running.status()
  inMemory.providers[0]!.finish(sandboxId!)
  expect(await running.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  expect(await other.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  expect((await waiting.status()).state).toBe('waiting')
  await queue.operations.resumeTenant('acme', { by })
  expect(await waiting.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  // Nobody takes it back, and a consumer does when its time is over.
  await queue.operations.pauseQueue({ by, reason: 'deploy', forMs: 3_000 })
  const last = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
  expect((await last.status()).reason).toMatch(/^waiting: the queue is paused by anna: deploy \(until /)
  expect(await last.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  expect(await queue.operations.queue()).toMatchObject({ paused: false, pause: null })
})

it('a consumer that is asked to leave hands its jobs over, says so, and is gone', { timeout: 300_000 }, async () => {
  const inMemory = await startInMemoryDeployment({ limits: [4] })
  after(() => inMemory.close())
  const { queue } = inMemory
  const first = await inMemory.startConsumer()
  const job = await queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false })
  await until('it runs', async () => (await job.status()).step !== null, 60_000)
  await until('it says what it has in hand', async () => (await queue.consumers()).some(({ running, places, host, pid, heeds }) => running === 1 && places === 200 && host !== null && pid === process.pid && heeds.includes('leave')))
  const second = await inMemory.startConsumer()
  expect(await queue.operations.drainConsumer(first.id, { by, reason: 'node is replaced' })).toEqual({ consumer: first.id, changed: true })
  await until('it is gone', async () => (await queue.consumers()).map(({ consumer }) => consumer).join() === second.id, 60_000)
  const { sandboxId } = await job.status()
  inMemory.providers[0]!.finish(sandboxId!)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  expect(inMemory.logs.some((line) => line.includes('an operator wants this consumer to leave') && line.includes('node is replaced'))).toBe(true)
})
