import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { CheckpointGoneError } from '../../src/job/errors.js'
import type { JobHandle } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
let redis: Redis
beforeAll(async () => {
  deployment = await startDeployment({ limits: [3] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterAll(() => deployment.close())
beforeEach(() => {
  redis = new Redis(deployment.redis.url, { maxRetriesPerRequest: null })
})
afterEach(async () => {
  redis.disconnect()
  await deployment.clear()
})

async function logOf(job: JobHandle): Promise<string> {
  let log = ''
  for await (const line of job.logs()) log += line.text
  return log
}
const branchHead = async (name: string) => await deployment.host.branchHead('acme/web', { name, ephemeral: true }, { timeoutMs: 10_000 })
const eventIds = async () => (await redis.xrange(new Keys().events(), '-', '+')).map(([, fields]) => fields[fields.indexOf('id') + 1])

it('goes on after the last step that had ended, whose result stays, on a branch and with a log and an event of its own', { timeout: 300_000 }, async () => {
  await deployment.startConsumer({ settings: { reapIntervalMs: 1_000 } })
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [
      { name: 'first', run: 'date +%s%N; echo first > first.txt' },
      { name: 'second', run: 'echo second-began; echo partly > partly.txt; until [ -e "$HOME/go" ] || [ -e "$HOME/fail" ]; do sleep 0.05; done; test -e "$HOME/go"' },
      { name: 'third', run: 'cat first.txt > third.txt' },
    ],
    promote: { to: 'done' },
    metadata: { ticket: 7 },
  })
  const touch = async (file: string) => {
    await until('the second step is at work', async () => (await job.status()).step === '2/3 second' && (await logOf(job)).includes('second-began'), 90_000)
    await deployment.providers[0]!.exec((await job.status()).sandboxId!, { script: `touch "$HOME/${file}"` }, { timeoutMs: 10_000 })
  }
  await touch('fail')
  const first = await job.result({ timeoutMs: 120_000 })
  expect(first).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, steps: [{ exitCode: 0 }, { exitCode: 1 }] })
  // Its work is pushed, and its last checkpoint is still there.
  expect(await branchHead(first.branch!)).not.toBeNull()
  const kept = `checkpoint/${job.jobId}-1.1`
  expect(await branchHead(kept)).not.toBeNull()

  const asked = await Promise.all([1, 2, 3].map(() => deployment.queue.retry(job.jobId, { from: 'checkpoint' })))
  expect(asked.filter((outcome) => outcome === 'retried')).toHaveLength(1)
  const second = job.result({ timeoutMs: 120_000 })
  await touch('go')
  const result = await second
  expect(result).toMatchObject({ status: 'succeeded', baseSha: first.baseSha, metadata: { ticket: 7 }, promoted: { to: 'done' }, steps: [first.steps[0], { name: 'second', exitCode: 0 }, { name: 'third', exitCode: 0 }] })
  expect(result.branch).not.toBe(first.branch)
  expect(result.attempts).toHaveLength(1)
  const folder = await deployment.checkout('acme/web', 'done', false)
  expect(await git(folder, 'show', 'HEAD:third.txt')).toBe('first')
  const log = await logOf(job)
  expect(log).not.toContain(first.steps[0]!.stdoutTail.trim())
  expect(log).toMatch(/goes on at local-a from checkpoint [0-9a-f]{12}, step 2/)
  expect(await eventIds()).toEqual([`${job.jobId}.1`, `${job.jobId}.2`])
  // The checkpoint was the new run's, and goes with its end; a minute later where the host took long.
  await until('the checkpoint is deleted', async () => (await branchHead(kept)) === null, 120_000)

  await expect(deployment.queue.retry(job.jobId, { from: 'checkpoint' })).rejects.toThrow('has succeeded, so there is nothing to go on with')
})

it('goes straight on to pushing and promoting, where all steps were done and the promotion was refused', { timeout: 300_000 }, async () => {
  await deployment.startConsumer()
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [{ name: 'only', run: 'echo work > work.txt; git add -A; git -c user.name=A -c user.email=a@b.c commit -qm mine; date +%s%N > once.txt; echo ran; until [ -e "$HOME/go" ]; do sleep 0.05; done' }],
    promote: { to: 'refused' },
  })
  await until('the step is at work', async () => (await job.status()).step === '1/1 only' && (await logOf(job)).includes('ran'), 90_000)
  // Somebody makes the target meanwhile.
  const folder = await deployment.checkout('acme/web', 'main', false)
  const access = await deployment.host.writeAccess('acme/web', { branch: 'refused' })
  const target = new URL(access.url.replace('+ephemeral.git', '.git'))
  target.username = access.username
  target.password = access.token
  await git(folder, 'push', '-q', target.href, 'HEAD:refs/heads/refused')
  await deployment.providers[0]!.exec((await job.status()).sandboxId!, { script: 'touch "$HOME/go"' }, { timeoutMs: 10_000 })
  const first = await job.result({ timeoutMs: 120_000 })
  expect(first).toMatchObject({ status: 'failed', error: { kind: 'conflict' }, steps: [{ exitCode: 0 }], promoted: null })

  expect(await deployment.queue.retry(job.jobId, { from: 'checkpoint' })).toBe('retried')
  const second = await job.result({ timeoutMs: 120_000 })
  // Not a step was run again: its result is that of the first run.
  expect(second).toMatchObject({ status: 'succeeded', steps: first.steps, promoted: { to: 'refused' } })
  const log = await logOf(job)
  expect(log).not.toContain('ran')
  expect(log).toMatch(/goes on at local-a from checkpoint [0-9a-f]{12}, after its last step/)
  const [done, undone] = [await deployment.checkout('acme/web', 'refused', false), await deployment.checkout('acme/web', first.branch!, true)]
  expect(await git(done, 'rev-parse', 'HEAD^{tree}')).toBe(await git(undone, 'rev-parse', 'HEAD^{tree}'))
  const subjects = await git(done, 'log', '--format=%s')
  expect([subjects, subjects.split('\n')]).toEqual([await git(undone, 'log', '--format=%s'), [`Work of job ${job.jobId}`, 'mine', 'Begin']])
})

it('goes on within a step by its resume, of a job that was cancelled; one that is cancelled before it is taken leaves the checkpoint to its schedule', { timeout: 300_000 }, async () => {
  const consumer = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [{
      name: 'agent',
      run: 'mkdir -p ~/.agent && echo "turn 1" > ~/.agent/session && echo one > one.txt && echo began; while [ ! -e ~/never ]; do sleep 0.1; done',
      resume: 'echo "turn 2" >> ~/.agent/session; cp ~/.agent/session session.txt',
    }],
    checkpoint: { everySeconds: 1, paths: ['~/.agent'] },
  })
  await until('a checkpoint within the step', async () => (await job.status()).checkpointSha !== null && (await logOf(job)).includes('began'), 90_000)
  await job.cancel('not now')
  const first = await job.result({ timeoutMs: 120_000 })
  expect(first).toMatchObject({ status: 'cancelled', branch: `checkpoint/${job.jobId}-1.1` })

  expect(await deployment.queue.retry(job.jobId, { from: 'checkpoint' })).toBe('retried')
  const second = await job.result({ timeoutMs: 120_000 })
  expect(second).toMatchObject({ status: 'succeeded', steps: [{ name: 'agent', exitCode: 0 }] })
  const folder = await deployment.checkout('acme/web', second.branch!, true)
  expect(await git(folder, 'show', 'HEAD:session.txt')).toBe('turn 1\nturn 2')
  expect(await git(folder, 'show', 'HEAD:one.txt')).toBe('one')

  const other = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x > x.txt', 'exit 3'] })
  await other.result({ timeoutMs: 120_000 })
  await consumer.stop()
  expect(await deployment.queue.retry(other.jobId, { from: 'checkpoint' })).toBe('retried')
  expect(await other.status()).toMatchObject({ state: 'waiting', result: null })
  expect(await other.cancel('never mind')).toBe('cancelled')
  const due = await redis.zscore(new Keys().branches(), JSON.stringify(['acme/web', `checkpoint/${other.jobId}-1.1`]))
  expect(Number(due)).toBeGreaterThan(Date.now())
})

it('is refused with a code once the checkpoint is gone, and the job stays as it is; what was asked for before says so in its result', { timeout: 300_000 }, async () => {
  const { queue, host } = deployment
  const consumer = await deployment.startConsumer({ settings: { branchRetentionMs: 1, reapIntervalMs: 1_000 } })
  const spec = { repository: 'acme/web', steps: ['echo x > x.txt', 'exit 3'] }
  const gone = await queue.enqueue({ ...spec, tenant: 'a' })
  const result = await gone.result({ timeoutMs: 120_000 })
  await until('the branch is deleted', async () => (await branchHead(`checkpoint/${gone.jobId}-1.1`)) === null && (await redis.zcard(new Keys().branches())) === 0)
  const refused: unknown = await queue.retry(gone.jobId, { from: 'checkpoint' }).catch((error: unknown) => error)
  expect(refused).toBeInstanceOf(CheckpointGoneError)
  expect(refused).toMatchObject({ code: 'SWY_CHECKPOINT_GONE', jobIds: [gone.jobId] })
  expect(String(refused)).toMatch(/its branch "checkpoint\/.*" has been deleted; run it again from the start/)
  expect(await gone.result({ timeoutMs: 5_000 })).toEqual(result)
  await consumer.stop()

  await deployment.startConsumer()
  const unsaved = await queue.enqueue({ ...spec, push: false, tenant: 'a' })
  await unsaved.result({ timeoutMs: 120_000 })
  await expect(queue.retry(unsaved.jobId, { from: 'checkpoint' })).rejects.toThrow('none was saved after the steps that it has done')
  // Of all that a filter finds, those that can are run again; the error names the others.
  const able = await queue.enqueue({ ...spec, tenant: 'a' })
  const before = await able.result({ timeoutMs: 120_000 })
  const atFirst = await queue.enqueue({ repository: 'acme/web', steps: ['exit 4'], push: false, tenant: 'a' })
  await atFirst.result({ timeoutMs: 120_000 })
  await until('BullMQ holds all as failed', async () => (await queue.list({ state: 'failed', tenant: 'a' })).length === 4)
  const partly = (await queue.retryMany({ tenant: 'a' }, { from: 'checkpoint' }).catch((error: unknown) => error)) as CheckpointGoneError
  expect(partly).toBeInstanceOf(CheckpointGoneError)
  expect(new Set(partly.jobIds)).toEqual(new Set([gone.jobId, unsaved.jobId]))
  expect(new Set(partly.retried)).toEqual(new Set([able.jobId, atFirst.jobId]))
  expect(await able.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'failed', steps: [before.steps[0], { exitCode: 3 }] })
  expect(await atFirst.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'failed', steps: [{ exitCode: 4 }] })

  // Deleted behind everybody's back.
  await host.deleteBranch('acme/web', { name: `checkpoint/${able.jobId}-1.1`, ephemeral: true }, { timeoutMs: 10_000 })
  expect(await queue.retry(able.jobId, { from: 'checkpoint' })).toBe('retried')
  expect(await able.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'failed', error: { kind: 'invalid', code: 'SWY_CHECKPOINT_GONE' } })
})
