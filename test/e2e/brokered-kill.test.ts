import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { CodeStorageHost } from '../../src/git/index.js'
import { spanning } from '../whole.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'
import { startGitFront, type GitFront } from './git-front.js'

let deployment: Deployment
let front: GitFront
let base: string

beforeAll(async () => {
  deployment = await startDeployment({ limits: [1] })
  base = await deployment.seed('acme/web', { 'README.md': 'hello\n', '.gitattributes': '* text=auto\n' })
  front = await startGitFront(deployment.storage.url)
})
afterAll(async () => {
  await deployment.close()
  await front.close()
})

// CI has the push that a job ends with; planned-move-killed.test.ts kills beside checkpoints.
it.each(spanning([['a checkpoint'], ['the final push']], 'the final push'))('a consumer that is killed between fetching the commits out of the sandbox and %s is gone on from', async (moment) => {
  const branch = moment === 'a checkpoint' ? 'checkpoint/' : 'agent/'
  const first = await deployment.startConsumerProcess({ credentials: 'brokered', storageUrl: front.url })
  const held: string[] = []
  let phaseAtHold: string | undefined
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [{ name: 'write', run: 'echo x >> runs.txt; cat runs.txt' }, { name: 'more', run: 'echo y >> runs.txt' }],
    promote: { to: `killed/${branch.slice(0, -1)}` },
    timeout: '2m',
  })
  // The commits are on the consumer by then: what waits here is its own push.
  front.before = async (request) => {
    if (request.method !== 'POST' || request.url?.endsWith('/git-receive-pack') !== true) return
    const { phase } = await job.status()
    if ((phase === 'pushing') !== (branch === 'agent/')) return
    held.push(request.url)
    phaseAtHold = phase ?? undefined
    await new Promise((resolve) => request.once('close', resolve))
    throw new Error('the consumer is gone')
  }
  try {
    await until('the push', () => held.length > 0, 60_000)
    first.kill('SIGKILL')
    await once(first, 'exit')
  } finally {
    front.before = () => Promise.resolve()
  }
  expect(phaseAtHold).toBe(branch === 'agent/' ? 'pushing' : 'steps')
  const host = new CodeStorageHost({ org: 'acme', privateKey: deployment.privateKey, storageUrl: deployment.storage.url, apiUrl: deployment.storage.apiUrl })
  const pushed = () => host.branchHead('acme/web', { name: `agent/${job.jobId}`, ephemeral: true }, { timeoutMs: 10_000 })
  expect(await pushed()).toBeNull()
  const second = await deployment.startConsumer({ providers: [{ provider: deployment.providers[0]!, limit: { sandboxes: 1 }, credentials: 'brokered' }] })
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], promoted: { sha: result.commit }, steps: [{ exitCode: 0 }, { exitCode: 0 }] })
  expect(await pushed()).toBe(result.commit)
  const promoted = await deployment.checkout('acme/web', `killed/${branch.slice(0, -1)}`, false)
  expect(await readFile(join(promoted, 'runs.txt'), 'utf8')).toBe('x\ny\n')
  expect(await git(promoted, 'rev-list', '--count', `${base}..HEAD`)).toBe('1')
  await second.stop()
}, 300_000)
