import { readFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobHandle } from '../../src/producers/index.js'
import { altered, startDeployment, until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// Consumers of one deployment that are configured differently, as while a change of configuration rolls out.
let deployment: InMemoryDeployment
beforeEach(async () => {
  deployment = await startInMemoryDeployment({ limits: [4, 4] })
})
afterEach(() => deployment.close())

const secret = { KEY: 'a-value-that-is-long-enough' }
const at = (index: 0 | 1) => [{ provider: deployment.providers[index]!, limit: { sandboxes: 4 } }]
const logged = (text: string) => deployment.logs.filter((line) => line.includes(text))
/** Runs until the test lets it end. */
const patient = 'sleep 600'
const inStep = (job: JobHandle) => until('the step', async () => (await job.status()).step !== null)

it('a missing secret, provider or key at one consumer fails no job: all of them run at the other', async () => {
  const able = await deployment.startConsumer({ secrets: secretsFromEnvironment(['KEY'], secret), settings: { maxJobs: 2 } })
  await deployment.startConsumer({
    providers: [
      ...at(0),
      { provider: altered(deployment.providers[1]!, { check: () => Promise.reject(new InfrastructureError({ kind: 'auth', source: 'local-b', message: 'local-b: the key is refused' })) }), limit: { sandboxes: 4 } },
    ],
  })
  await deployment.startConsumer({ providers: at(0), settings: { unrunnableGraceMs: 1 } })
  const jobs = await deployment.queue.enqueueMany([
    ...Array.from({ length: 6 }, () => ({ repository: 'acme/web', steps: ['test -n "$KEY"'], secrets: ['KEY'] })),
    ...Array.from({ length: 6 }, () => ({ repository: 'acme/web', steps: ['true'], providers: { allow: ['local-b'] } })),
  ])
  const results = await Promise.all(jobs.map((job) => job.result({ timeoutMs: 150_000 })))
  expect(results.map(({ status, attempts }) => [status, attempts.length])).toEqual(jobs.map(() => ['succeeded', 1]))
  expect(results.slice(6).map(({ attempts }) => attempts[0]?.provider)).toEqual(Array.from({ length: 6 }, () => 'local-b'))
  await able.stop()
})

it('a running job is not handed to a consumer that lacks its secret or its provider, and goes on at one that has them', async () => {
  const secrets = secretsFromEnvironment(['KEY'], secret)
  const first = await deployment.startConsumer({ secrets, providers: at(1) })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [patient], secrets: ['KEY'] })
  await inStep(job)
  const { sandboxId } = await job.status()
  await deployment.startConsumer({ providers: at(1), settings: { unrunnableGraceMs: 600_000 } })
  await deployment.startConsumer({ secrets, providers: at(0), settings: { unrunnableGraceMs: 600_000 } })
  await first.stop()
  await until('the job to wait', async () => (await job.status()).reason?.includes('KEY') === true)
  expect(await job.status()).toMatchObject({ state: 'running', phase: 'steps', sandboxId })
  const last = await deployment.startConsumer({ secrets })
  deployment.providers[1]!.finish(sandboxId!)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ sandboxId, outcome: 'succeeded' }] })
  await last.stop()
})

it('a job whose provider nobody has any more goes on elsewhere from its last checkpoint, and says what became of its sandbox', async () => {
  const first = await deployment.startConsumer({ providers: at(1) })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'first', run: 'echo one > one.txt' }, { name: 'second', run: patient }] })
  await until('the second step', async () => (await job.status()).step?.includes('second') === true)
  const { sandboxId } = await job.status()
  await until('the checkpoint', async () => (await job.status()).checkpointSha !== null)
  await first.stop()
  await deployment.startConsumer({ providers: at(0), settings: { unrunnableGraceMs: 500 } })
  await until('the job to move', async () => (await job.status()).provider === 'local-a')
  await until('the step there', async () => (await job.status()).step !== null)
  const moved = await job.status()
  deployment.providers[0]!.finish(moved.sandboxId!)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({
    status: 'succeeded',
    attempts: [{ provider: 'local-b', sandboxId, outcome: 'lost', error: { message: `no live consumer has the provider "local-b" any more; the sandbox ${sandboxId} is left to its lifetime` } }, { provider: 'local-a', outcome: 'succeeded' }],
    steps: [{ name: 'first' }, { name: 'second' }],
  })
  let text = ''
  for await (const line of job.logs()) text += line.text
  expect(text).toContain(`the sandbox ${sandboxId} is left to its lifetime`)
  // Nothing spun meanwhile.
  expect(logged('job taken').length).toBeLessThan(6)
  // Its place is the sandbox's, and free as soon as somebody has the provider again who sees that it is dead.
  const usedAtB = async () => (await deployment.queue.providers()).find(({ provider }) => provider === 'local-b')?.used
  expect(await usedAtB()).toBe(1)
  await deployment.startConsumer({ providers: at(1), settings: { reapIntervalMs: 1_000, reapGraceMs: 1_000 } })
  await until('the place to be free', async () => (await usedAtB()) === 0)
})

it('a job that nobody may go on with ends, with its work up to the last checkpoint', async () => {
  const real = await startDeployment({ limits: [4, 4] })
  try {
    await real.seed('acme/web', { 'README.md': 'hello\n' })
    const slots = real.providers.map((provider) => ({ provider, limit: { sandboxes: 4 } }))
    const first = await real.startConsumer({ providers: slots.slice(1) })
    const job = await real.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'first', run: 'echo one > one.txt' }, { name: 'second', run: patient }], providers: { allow: ['local-b'] } })
    await until('the second step', async () => (await job.status()).step?.includes('second') === true)
    await until('the checkpoint', async () => (await job.status()).checkpointSha !== null)
    await first.stop()
    await real.startConsumer({ providers: slots.slice(0, 1), settings: { unrunnableGraceMs: 500 } })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'invalid', message: expect.stringContaining('no live consumer of this deployment can run this job: providers.allow: "local-b" is not configured') as string } })
    const folder = await real.checkout('acme/web', result.branch!, true)
    expect(await readFile(`${folder}/one.txt`, 'utf8')).toBe('one\n')
  } finally {
    await real.close()
  }
})

it('a cancelled job ends at once though nobody has its provider', async () => {
  const first = await deployment.startConsumer({ providers: at(1) })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [patient] })
  await inStep(job)
  await first.stop()
  await deployment.startConsumer({ providers: at(0), settings: { unrunnableGraceMs: 600_000 } })
  await until('the first to be forgotten', async () => (await job.status()).reason?.includes('local-b') === true)
  await job.cancel('enough')
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled' })
})

it('a job that no live consumer can run waits for the grace with that reason, and then fails with it', async () => {
  await deployment.startConsumer({ settings: { unrunnableGraceMs: 2_000 } })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], secrets: ['NOT_THERE'] })
  await until('the reason', async () => (await job.status()).reason?.includes('NOT_THERE') === true)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'failed', attempts: [], error: { kind: 'invalid', message: expect.stringMatching(/^no live consumer of this deployment can run this job: secrets: no consumer has NOT_THERE/) as string } })
})
