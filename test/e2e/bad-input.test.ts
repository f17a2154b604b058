import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobResult } from '../../src/job/result.js'
import { processes } from '../processes.js'
import { startModal } from '../providers/modal-fixture.js'
import { spanning } from '../whole.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// SWITCHYARD_SOAK=1 prints a gigabyte.
const printedBytes = process.env['SWITCHYARD_SOAK'] === undefined ? 30_000_000 : 1_000_000_000

let deployment: Deployment

beforeAll(async () => {
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await deployment.startConsumer({ settings: { maxLogBytes: 256 * 1024 } })
})
afterAll(() => deployment.close())

async function run(spec: Partial<JobSpecInput>): Promise<JobResult> {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], timeout: '3m', ...spec })
  return job.result({ timeoutMs: 150_000 })
}

describe('a job that can’t work fails with a sentence, before a sandbox is made for it', () => {
  it.each<[string, Partial<JobSpecInput>, string]>([
    ['a ref that does not exist', { ref: 'no-such-branch' }, '"no-such-branch" is neither a branch, a tag nor a commit of "acme/web"'],
    ['a repository that does not exist', { repository: 'acme/nothing' }, 'repository "acme/nothing" does not exist'],
    ['a secret that the consumer does not have', { secrets: ['NOT_THERE'] }, 'no live consumer of this deployment can run this job: secrets: no consumer has NOT_THERE; set and allow it in consumer.secrets (for "switchyard dev": --secret NAME, or .env), or take it out of the spec'],
    ['a provider that is not configured', { providers: { prefer: ['e2b'] } }, 'providers.prefer: "e2b" is not configured at this deployment; configured are: local-a, local-b'],
    ['an image where no provider takes one', { image: 'python:3.12' }, 'local-a: image: sandboxes on this machine have its own system; leave image out or use another provider; and local-b: image'],
    ['a network policy that nobody enforces', { network: ['example.com'] }, 'network: none of local-a, local-b can enforce an allow list'],
  ])('%s', async (_what, spec, sentence) => {
    const result = await run(spec)
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'invalid' }, attempts: [], branch: null, usage: { sandboxSeconds: 0 } })
    expect(result.error?.message).toContain(sentence)
  })

  it('a key that the git host does not know', async () => {
    const other = new CodeStorageHost({ org: 'acme', privateKey: generateDevelopmentKeys().privateKey, storageUrl: deployment.storage.url, apiUrl: deployment.storage.apiUrl })
    const stranger = await startDeployment()
    try {
      await stranger.startConsumer({ git: other })
      // Known at the start already.
      await until('the log to say it', () => stranger.logs.some((line) => line.includes('the git host refuses this consumer')))
      const job = await stranger.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
      // The key is the consumer's own: no job fails for it, and those whose key is taken run them.
      await until('the reason', async () => (await job.status()).reason?.includes('waiting for a consumer whose key is taken (git: ') === true)
      await stranger.seed('acme/web', { 'README.md': 'hello\n' })
      await stranger.startConsumer()
      expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
    } finally {
      await stranger.close()
    }
  })
})

describe('a job that only a provider can find wrong', () => {
  it('goes past one that could never run it, and fails at the other as invalid, without a retry', async () => {
    const modal = await startModal()
    const own = await startDeployment({ limits: [2] })
    await own.seed('acme/web', { 'README.md': 'hello\n' })
    const [local] = own.providers
    await own.startConsumer({ providers: [{ provider: local!, limit: { sandboxes: 2 } }, { provider: modal.provider, limit: { sandboxes: 2 } }] })
    try {
      const job = await own.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, image: 'python:3.12', providers: { prefer: ['local-a'] } })
      expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'modal' }] })
      const unknown = await own.queue.enqueue({ repository: 'acme/web', steps: ['true'], image: 'no-such-image' })
      const before = modal.calls('create')
      const result = await unknown.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'failed', error: { kind: 'invalid' }, attempts: [{ provider: 'modal' }] })
      expect(result.error?.message).toContain('no-such-image')
      expect(modal.calls('create') - before).toBe(0)
    } finally {
      await own.close()
      await modal.close()
    }
  })
})

describe('a step that misbehaves neither hangs the consumer nor harms another job', () => {
  it('one that waits on stdin reads its end at once', async () => {
    expect(await run({ steps: ['cat; echo after'], push: false })).toMatchObject({ status: 'succeeded', steps: [{ stdoutTail: 'after\n' }] })
  })

  // CI has a signal; test/runner/steps.test.ts has them all, in each shell.
  it.each(spanning<[string, number]>([
    ['exit 3', 3],
    ['set -e; false; echo never', 1],
    ['kill -9 $$', 137],
    ['exec false', 1],
    ['no-such-command-anywhere', 127],
  ], 'kill -9 $$'))('%s ends with %i', async (command, exitCode) => {
    expect(await run({ steps: [command], push: false })).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, steps: [{ exitCode }] })
  })

  it('one that daemonises ends when its command ends, and the daemon dies with the sandbox', async () => {
    // Nobody else's.
    const daemon = `sleep 600.${randomInt(100_000_000, 1_000_000_000)}`
    const result = await run({ steps: [`(setsid ${daemon} >/dev/null 2>&1 &) ; (sleep 601 &) ; echo started`], push: false })
    expect(result).toMatchObject({ status: 'succeeded', steps: [{ stdoutTail: 'started\n' }] })
    await until('the daemon to be dead', async () => !(await processes('args')).some((line) => line.includes(daemon)))
  })

  it('one past its timeout is stopped, its work kept', async () => {
    const result = await run({ steps: [{ name: 'slow', run: 'echo kept > kept.txt; echo said; trap "" TERM; sleep 600', timeout: '5s' }] })
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'timeout', message: 'slow did not end within its timeout' }, steps: [{ exitCode: null, stdoutTail: 'said\n' }], diff: { paths: ['kept.txt'] } })
  })

  it('a job past its timeout likewise', async () => {
    const result = await run({ steps: ['echo kept > kept.txt; sleep 600'], timeout: '8s' })
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'timeout' }, diff: { paths: ['kept.txt'] } })
  })

  it('one that prints without end is cut in the middle, and both ends arrive', async () => {
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [`echo BEGIN; head -c ${printedBytes} /dev/zero | tr "\\0" x; echo; echo END`], push: false })
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    let text = ''
    for await (const line of job.logs()) text += line.text
    expect(text.startsWith('BEGIN\n')).toBe(true)
    expect(text).toMatch(/\[… \d+ bytes omitted …\]/)
    expect(text.trimEnd().endsWith('END')).toBe(true)
    expect(text.length).toBeLessThan(600 * 1024)
  })

  // CI has nothing of a repository left; test/runner/hostile-repository.test.ts has what configuration and hooks may do.
  it.each(spanning<[string, string]>([
    ['rewrites .git/config', 'git config core.fsmonitor "touch $HOME/owned"; git config core.sshCommand "touch $HOME/owned"; git config credential.helper "!touch $HOME/owned"; git config url.http://127.0.0.1:1/.insteadOf http://; echo x > file.txt'],
    ['adds hooks', 'mkdir -p .git/hooks; for h in pre-commit pre-push post-commit reference-transaction; do printf "#!/bin/sh\\ntouch $HOME/owned\\nexit 1\\n" > .git/hooks/$h; chmod +x .git/hooks/$h; done; echo x > file.txt'],
    ['deletes .git', 'rm -rf .git; echo x > file.txt'],
  ], 'deletes .git'))('one that %s can’t stop its work from being saved', async (_what, command) => {
    const result = await run({ steps: [command, 'test ! -e "$HOME/owned"'] })
    expect(result).toMatchObject({ status: 'succeeded', diff: { paths: ['file.txt'] } })
  })

  it('one that fills its disk fails alone', async () => {
    const result = await run({ steps: ['head -c 3000000 /dev/zero > /dev/full'], push: false })
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'step-failed' } })
    expect(await run({ push: false })).toMatchObject({ status: 'succeeded' })
  })
})
