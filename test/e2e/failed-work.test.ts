import { afterEach, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { altered, git, startDeployment, verbOf, type Deployment } from './deployment.js'

let deployment: Deployment
afterEach(() => deployment.close())

/** A job whose only step fails; each of its runner's calls is shown to `strike` first. */
async function failingJob(strike: (verb: string, sandboxId: string, call: () => Promise<unknown>) => Promise<void>) {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await deployment.startConsumer({
    providers: deployment.providers.map((provider) => ({
      limit: { sandboxes: 1 },
      provider: altered(provider, {
        exec: async (id, command, options) => {
          await strike(verbOf(command), id, () => provider.exec(id, command, options))
          return provider.exec(id, command, options)
        },
      }),
    })),
  })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo kept > kept.txt; exit 3'] })
  return job.result({ timeoutMs: 150_000 })
}

it('what a failed job has done is pushed, though the provider does not serve the first tries', async () => {
  const struck: string[] = []
  const result = await failingJob((verb) => {
    if (!['commit', 'push'].includes(verb) || struck.filter((one) => one === verb).length >= 2) return Promise.resolve()
    struck.push(verb)
    return Promise.reject(new InfrastructureError({ kind: 'transient', source: 'local-a', message: 'connection reset' }))
  })
  expect(struck).toEqual(['commit', 'commit', 'push', 'push'])
  expect(result).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, branch: `agent/${result.jobId}`, steps: [{ exitCode: 3 }] })
  const folder = await deployment.checkout('acme/web', result.branch ?? '', true)
  expect(await git(folder, 'show', 'HEAD:kept.txt')).toBe('kept')
})

it('a failed job ends at once when the sandbox with its work is lost', async () => {
  const result = await failingJob(async (verb, id) => {
    if (verb === 'commit') await deployment.providers[0]?.kill(id, { timeoutMs: 10_000 })
  })
  expect(result).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, branch: null })
})

it('a failed job whose sandbox is lost with the answer to its push names the branch that has its work', async () => {
  const result = await failingJob(async (verb, id, call) => {
    if (verb !== 'push') return
    await call()
    await deployment.providers[0]?.kill(id, { timeoutMs: 10_000 })
  })
  expect(result).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, branch: `agent/${result.jobId}` })
  const folder = await deployment.checkout('acme/web', result.branch ?? '', true)
  expect(await git(folder, 'show', 'HEAD:kept.txt')).toBe('kept')
  expect(await git(folder, 'rev-parse', 'HEAD')).toBe(result.commit)
})
