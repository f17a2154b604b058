import { expect, it } from 'vitest'
import type { AgentQueue } from '../../src/producers/index.js'
import { after } from '../undo.js'
import { startDeployment, until, type Deployment } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

async function withGit(limits: readonly number[]): Promise<Deployment> {
  const deployment = await startDeployment({ limits })
  after(() => deployment.close())
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  return deployment
}
/** What is shown of places alone needs no machines. */
async function inMemory(limits: readonly number[]): Promise<InMemoryDeployment> {
  const deployment = await startInMemoryDeployment({ limits })
  after(() => deployment.close())
  return deployment
}

const counting = 'i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo "line $i"; echo "error $i" >&2; sleep 0.05; done; echo x >> runs.txt; wc -l < runs.txt'

async function outputOf(deployment_: { readonly queue: AgentQueue }, jobId: string, stream = 'stdout'): Promise<string> {
  let text = ''
  for await (const line of deployment_.queue.job(jobId).logs({ follow: false })) if (line.stream === stream) text += line.text
  return text
}
const whole = `${Array.from({ length: 60 }, (_, index) => `line ${index + 1}\n`).join('')}1\n`
const wholeErrors = Array.from({ length: 60 }, (_, index) => `error ${index + 1}\n`).join('')

it('a stopping consumer hands its job over: the sandbox goes on, no step runs again, no byte is lost or doubled', async () => {
  const deployment = await withGit([4, 4])
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })
  await until('output', async () => (await outputOf(deployment, job.jobId)).includes('line 10\n'))
  const second = deployment.startConsumer()
  await first.stop()
  await second
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ exitCode: 0 }] })
  expect(await outputOf(deployment, job.jobId)).toBe(whole)
  expect(await outputOf(deployment, job.jobId, 'stderr')).toBe(wholeErrors)
})

it('with every place taken a handed-over job is taken all the same, since it holds its own', async () => {
  const deployment = await inMemory([1])
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'] })
  const next = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
  await until('the step', async () => (await job.status()).step !== null)
  await first.stop()
  expect((await next.status()).state).toBe('waiting')
  await deployment.startConsumer()
  deployment.providers[0]!.finish((await job.status()).sandboxId!)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
})

it('a killed consumer’s job is gone on with by another: same sandbox, no step again, no byte lost or doubled', async () => {
  const deployment = await withGit([1])
  const first = await deployment.startConsumerProcess()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })
  await until('output', async () => (await outputOf(deployment, job.jobId)).includes('line 10\n'))
  const { sandboxId } = await job.status()
  first.kill('SIGKILL')
  await deployment.startConsumer()
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ sandboxId, outcome: 'succeeded' }], steps: [{ exitCode: 0 }] })
  expect(await outputOf(deployment, job.jobId)).toBe(whole)
  expect(await outputOf(deployment, job.jobId, 'stderr')).toBe(wholeErrors)
})

it('a job that is cancelled while nobody supervises it is ended at the next take-over, and its place is free again', async () => {
  const deployment = await inMemory([1])
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'] })
  await until('the step', async () => (await job.status()).phase === 'steps')
  await first.stop()
  expect(await job.cancel('not needed')).toBe('requested')
  await deployment.startConsumer()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { message: 'not needed' } })
  const next = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
  expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
})

it('the place of a job whose consumer was killed stays taken while its sandbox lives, until the job has been taken over and has ended', async () => {
  const deployment = await withGit([1])
  const killed = await deployment.startConsumerProcess()
  const first = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false, priority: 10 })
  await until('the step', async () => (await first.status()).phase === 'steps')
  const { sandboxId } = await first.status()
  killed.kill('SIGKILL')
  // Before the first in the queue's order: it would get the place if there were one.
  const second = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, priority: 1 })
  const used = async () => (await deployment.queue.providers()).map((load) => load.used)
  expect(await used()).toEqual([1])
  await deployment.startConsumer()
  await until('the take-over', async () => deployment.logs.some((line) => line.includes('"job taken"') && line.includes(first.jobId)))
  expect(await used()).toEqual([1])
  expect((await second.status()).state).toBe('waiting')
  expect(await first.status()).toMatchObject({ sandboxId, attempts: 1 })
  await first.cancel('enough')
  expect(await second.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  await until('its place to be free', async () => (await used()).join() === '0')
})
