import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { spanning } from '../whole.js'
import { altered, git, startDeployment, type Deployment } from './deployment.js'

/** What a job, or the git host for its repository, does wrong with real git and a real runner: it ends that job, and no other one. */
let deployment: Deployment
const asked = new Map<string, number>()

beforeAll(async () => {
  deployment = await startDeployment({ limits: [4] })
  const { host } = deployment
  await Promise.all(['acme/web', 'acme/refused', 'acme/expired'].map((repository) => deployment.seed(repository, { 'README.md': 'hello\n' })))
  await deployment.startConsumer({
    git: altered(host, {
      writeAccess: async (repository, options) => {
        if (!options.branch.startsWith('agent/')) return host.writeAccess(repository, options)
        const times = (asked.get(repository) ?? 0) + 1
        asked.set(repository, times)
        // The host's own hook refuses what the token does not allow.
        if (repository === 'acme/refused') return host.writeAccess(repository, { ...options, branch: 'agent/another' })
        const access = await host.writeAccess(repository, options)
        return repository === 'acme/expired' && times === 1 ? { ...access, token: `${access.token}x` } : access
      },
    }),
  })
}, 300_000)
afterAll(() => deployment.close())

const result = async (repository: string, steps: string[]) => (await deployment.queue.enqueue({ repository, steps, timeout: '3m' })).result({ timeoutMs: 180_000 })

describe('a push', () => {
  it('that the host refuses is made once: the job is invalid, with the host’s words and its last checkpoint', { timeout: 200_000 }, async () => {
    const refused = await result('acme/refused', ['echo one > one.txt', 'echo two > two.txt'])
    expect(refused).toMatchObject({ status: 'failed', error: { kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED' }, attempts: [{ outcome: 'failed' }] })
    expect(refused.error?.message).toMatch(/the git host refuses this push: remote: .*denied by policy/)
    expect(asked.get('acme/refused')).toBe(1)
    expect(refused.branch).toMatch(/^checkpoint\//)
    const folder = await deployment.checkout('acme/refused', refused.branch ?? '', true)
    expect(await git(folder, 'show', 'HEAD:one.txt')).toBe('one')
  })

  it('whose token has run out is made again, once, with another', { timeout: 200_000 }, async () => {
    expect(await result('acme/expired', ['echo one > one.txt'])).toMatchObject({ status: 'succeeded', error: null, attempts: [{ outcome: 'succeeded' }] })
    expect(asked.get('acme/expired')).toBe(2)
  })
})

describe('a job that attacks the runner', () => {
  // Both are told from a code by the same look: CI has the one that is no number.
  it.each(spanning<[string, string]>([
    ['a code that is no exit code', 'for d in $(find ~/.switchyard -type d); do : > "$d/exited.99999"; done; sleep 30'],
    ['a code that is no number', 'for d in $(find ~/.switchyard -type d); do : > "$d/exited.NaN"; done; sleep 30'],
  ], 'a code that is no number'))('with %s is invalid, by its own fault', { timeout: 200_000 }, async (_what, step) => {
    const attacked = await result('acme/web', [step])
    expect(attacked).toMatchObject({ status: 'failed', error: { kind: 'invalid', owner: 'job' }, attempts: [{ outcome: 'failed' }] })
    expect(attacked.error?.message).not.toContain('defect')
  })

  it('by removing its folder ends, and the next job does not notice', { timeout: 200_000 }, async () => {
    const attacked = await result('acme/web', ['rm -rf ~/.switchyard; sleep 1'])
    expect(attacked.status).toBe('failed')
    expect(['invalid', 'step-failed']).toContain(attacked.error?.kind)
    expect(attacked.error?.owner).toBe('job')
    expect(await result('acme/web', ['echo fine > fine.txt'])).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
    expect((await deployment.queue.providers()).map(({ provider, breaker }) => `${provider} ${breaker}`)).toEqual(['local-a closed'])
  })
})
