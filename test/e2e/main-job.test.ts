import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { subscribe, type CompletionEvent } from '../../src/events/index.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
let base: string

beforeAll(async () => {
  deployment = await startDeployment()
  base = await deployment.seed('acme/web', { 'README.md': 'hello\n', 'src/a.txt': 'a\n', '.gitignore': 'ignored\n' })
  await deployment.startConsumer()
})
afterAll(() => deployment.close())

async function sandboxes(): Promise<string[]> {
  const found: string[] = []
  for (const provider of deployment.providers) for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) found.push(id)
  return found
}

describe('the way of a job', () => {
  it('changes files, is pushed, promoted and ends without a sandbox left', async () => {
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [
        { name: 'write', run: 'echo new > new.txt; rm src/a.txt; echo x > ignored; echo out; echo err >&2' },
        { name: 'check', run: 'test -f new.txt && cat new.txt' },
      ],
      push: { message: 'Write a new file' },
      promote: { to: 'done' },
      metadata: { ticket: 7 },
    })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({
      status: 'succeeded',
      error: null,
      baseSha: base,
      branch: `agent/${job.jobId}`,
      promoted: { to: 'done', result: 'created', sha: result.commit },
      steps: [
        { name: 'write', exitCode: 0, stdoutTail: 'out\n', stderrTail: 'err\n' },
        { name: 'check', exitCode: 0, stdoutTail: 'new\n' },
      ],
      attempts: [{ outcome: 'succeeded', error: null }],
      diff: { files: 2, additions: 1, deletions: 1, paths: ['new.txt', 'src/a.txt'] },
      metadata: { ticket: 7 },
    })
    const folder = await deployment.checkout('acme/web', 'done', false)
    expect(await git(folder, 'log', '--format=%s', `${base}..HEAD`)).toBe('Write a new file')
    expect(await git(folder, 'log', '-1', '--format=%(trailers:key=Agent-Job,valueonly)')).toBe(job.jobId)
    expect(await git(folder, 'ls-files')).toBe('.gitignore\nREADME.md\nnew.txt')
    await until('the sandboxes to be gone', async () => (await sandboxes()).length === 0)
    expect((await deployment.queue.view(job.jobId))?.patch).toEqual({
      commit: result.commit, known: true, files: [{ path: 'new.txt', text: '@@ -0,0 +1 @@\n+new\n', cut: false }, { path: 'src/a.txt', text: '@@ -1 +0,0 @@\n-a\n', cut: false }],
    })
    const text: string[] = []
    for await (const line of job.logs()) text.push(line.text)
    expect(text.join('')).toContain('out\n')
  })

  it('goes on at the other provider from its checkpoint when its sandbox is killed within the second step', async () => {
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [
        { name: 'first', run: 'echo once >> first.txt; echo first ran' },
        { name: 'second', run: 'echo waiting; [ "$SWITCHYARD_ATTEMPT" = 2 ] || sleep 600; cat first.txt > second.txt' },
      ],
    })
    await until('the second step', async () => (await job.status()).step?.includes('second') ?? false)
    await until('its first output', async () => {
      for await (const line of job.logs({ follow: false })) if (line.text.includes('waiting')) return true
      return false
    })
    const { provider, sandboxId } = await job.status()
    await deployment.providers.find(({ name }) => name === provider)!.kill(sandboxId!, { timeoutMs: 10_000 })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', steps: [{ name: 'first' }, { name: 'second' }], attempts: [{ outcome: 'lost' }, { outcome: 'succeeded' }] })
    expect(result.attempts[1]!.provider).not.toBe(result.attempts[0]!.provider)
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await readFile(join(folder, 'second.txt'), 'utf8')).toBe('once\n')
  })

  it('fails with its output when a command exits with another code than 0, and keeps the work', async () => {
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: ['echo partial > partial.txt', 'echo before; echo broken >&2; exit 3', 'echo never'],
      promote: { to: 'never' },
    })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({
      status: 'failed',
      error: { kind: 'step-failed', message: 'step 2 exited with code 3' },
      promoted: null,
      steps: [{ exitCode: 0 }, { exitCode: 3, stdoutTail: 'before\n', stderrTail: 'broken\n' }],
      attempts: [{ outcome: 'failed' }],
    })
    expect(await deployment.host.branchHead('acme/web', { name: 'never', ephemeral: false }, { timeoutMs: 10_000 })).toBeNull()
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await readFile(join(folder, 'partial.txt'), 'utf8')).toBe('partial\n')
  })

  it('is shown in BullMQ’s own log and progress, bounded, and tells its end to a subscriber', async () => {
    const told: CompletionEvent[] = []
    const subscription = subscribe({ url: deployment.redis.url }, 'test', async (event) => void told.push(event))
    const queue = new Queue('agents', { prefix: '{switchyard}', connection: { url: deployment.redis.url } })
    try {
      // An end takes those along that are past their retention.
      const redis = new Redis(deployment.redis.url)
      await redis.zadd('{switchyard}:agents:completed', Date.now() - 8 * 86_400_000, 'old')
      const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo for the board'] })
      const result = await job.result({ timeoutMs: 150_000 })
      await until('the end in the queue', async () => (await queue.getJob(job.jobId))?.finishedOn !== undefined)
      expect((await queue.getJobLogs(job.jobId)).logs.join('\n')).toContain('for the board')
      const shown = await queue.getJob(job.jobId)
      expect(shown).toMatchObject({ progress: { phase: 'closing', attempt: 1 }, returnvalue: { status: 'succeeded' } })
      expect(await redis.zscore('{switchyard}:agents:completed', 'old')).toBeNull()
      redis.disconnect()
      await until('the event', () => told.some(({ subject }) => subject === job.jobId))
      expect(told.find(({ subject }) => subject === job.jobId)).toMatchObject({ id: `${job.jobId}.1`, type: 'dev.switchyard.job.succeeded', source: '/switchyard/test', data: result })
    } finally {
      await queue.close()
      await subscription.close()
    }
  })

  it('is cancelled in the middle of a step', async () => {
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo hi; sleep 600'] })
    await until('the step', async () => (await job.status()).phase === 'steps')
    expect(await job.cancel('changed my mind')).toBe('requested')
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: 'changed my mind' } })
    await until('the sandbox to be gone', async () => (await sandboxes()).length === 0)
  })
})
