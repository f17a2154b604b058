import { once } from 'node:events'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import type { Consumer } from '../../src/consumers/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { startForgeServer, type ForgeServer } from '../servers/forges/server.js'
import { hostWithForge, startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
let forge: ForgeServer
let running: Consumer[] = []

beforeAll(async () => {
  deployment = await startDeployment({ limits: [4] })
  forge = await startForgeServer('github')
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterAll(async () => {
  await deployment.close()
  await forge.close()
})
beforeEach(() => {
  forge.fault = undefined
  forge.state.requests.splice(0)
})

const gitOf = () => ({ org: 'acme', privateKey: deployment.privateKey, storageUrl: deployment.storage.url })

async function consumer(): Promise<void> {
  if (running.length > 0) return
  running = [await deployment.startConsumer({ git: hostWithForge(gitOf(), forge) })]
}

async function stopConsumers(): Promise<void> {
  await Promise.all(running.map((each) => each.stop()))
  running = []
}

/** A machine with much else to do needs more than the usual minute. */
const timeoutMs = 180_000
let jobs = 0
/** The forge knows the branches that are pushed, as the same host would. */
async function enqueue(pullRequest: NonNullable<JobSpecInput['promote']>['pullRequest'], more: Partial<JobSpecInput> = {}) {
  const to = `fix/it-${++jobs}`
  forge.state.branches.add(to)
  return { to, job: await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'work', run: `echo ${jobs} > work-${jobs}.txt` }], promote: { to, pullRequest }, ...more }) }
}

it('is opened when the work is pushed, with the result’s summary, and its link is in the result and the event', { timeout: 400_000 }, async () => {
  await consumer()
  const { to, job } = await enqueue({ title: 'Fix it', body: 'It was broken.', labels: ['bot'], reviewers: ['ada'] })
  const result = await job.result({ timeoutMs })
  expect(result).toMatchObject({ status: 'succeeded', promoted: { to, result: 'created' }, pullRequest: { number: 1, url: 'https://github.example/acme/web/pull/1', base: 'main', action: 'opened', problems: [] } })
  expect(forge.state.requests).toMatchObject([{ head: to, base: 'main', title: 'Fix it', state: 'open', labels: ['bot'], reviewers: ['ada'] }])
  const { body = '' } = forge.state.requests[0] ?? {}
  expect(body).toMatch(/^It was broken\.\n\n---\n\nJob `[\w-]+`, commit `[0-9a-f]{40}`\n\n- 1 file changed, \+1 -0\n- `work`: exit 0 after \d+ s\n\n`switchyard [0-9a-f]{20}`\n$/)
  const events: unknown[] = []
  for await (const line of job.logs()) events.push(line.text)
  expect(events.join('')).toContain('pull request opened: https://github.example/acme/web/pull/1')
})

it('is one although the consumer that opened it was killed before it knew', { timeout: 400_000 }, async () => {
  await stopConsumers()
  forge.fault = ({ method, path, when }) => (method === 'POST' && path.endsWith('/pulls') && when === 'after' ? 'hang' : undefined)
  const child = await deployment.startConsumerProcess({ forge: { kind: forge.kind, url: forge.url, token: forge.token } })
  const { job, to } = await enqueue({})
  await until('a pull request', () => forge.state.requests.some(({ head }) => head === to), timeoutMs)
  child.kill('SIGKILL')
  await once(child, 'exit')
  await consumer()
  expect(await job.result({ timeoutMs })).toMatchObject({ status: 'succeeded', promoted: { result: 'created' }, pullRequest: { action: 'opened' } })
  expect(forge.state.requests.filter(({ head }) => head === to)).toHaveLength(1)
})

it('is waited for while the host is away, and whoever is at fault is named when it can’t be opened; the work is where it was promoted to', { timeout: 400_000 }, async () => {
  await consumer()
  let left = 2
  forge.fault = ({ when }) => (when === 'before' && left-- > 0 ? { status: 503 } : undefined)
  expect(await (await enqueue({})).job.result({ timeoutMs })).toMatchObject({ status: 'succeeded', pullRequest: { action: 'opened' } })
  forge.fault = undefined
  const missing = await enqueue({ base: 'release/9' })
  expect(await missing.job.result({ timeoutMs })).toMatchObject({ status: 'failed', error: { kind: 'invalid', owner: 'job' }, promoted: { to: missing.to }, pullRequest: null })
  forge.fault = ({ method }) => (method === 'POST' ? { status: 403, body: { message: 'Resource not accessible by integration' } } : undefined)
  const refused = await enqueue({})
  expect(await refused.job.result({ timeoutMs })).toMatchObject({ status: 'failed', error: { kind: 'auth', owner: 'consumer-keys', code: 'SWY_CONSUMER_KEY_REFUSED', message: expect.stringContaining('Resource not accessible') as string }, promoted: { to: refused.to } })
})

it('is refused at the start where the host has none', { timeout: 200_000 }, async () => {
  await stopConsumers()
  await deployment.startConsumer()
  const { job } = await enqueue({})
  expect(await job.result({ timeoutMs })).toMatchObject({ status: 'failed', steps: [], error: { owner: 'consumer-configuration', message: expect.stringContaining('promote.pullRequest') as string } })
})
