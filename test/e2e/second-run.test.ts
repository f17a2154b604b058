import { writeFile } from 'node:fs/promises'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { Keys } from '../../src/store/index.js'
import { altered, git, startDeployment, until, type Deployment } from './deployment.js'

// A job is run again from the board, by BullMQ's own retry.
let deployment: Deployment
let redis: Redis
let bull: Queue
beforeAll(async () => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterAll(() => deployment.close())
beforeEach(() => {
  redis = new Redis(deployment.redis.url, { maxRetriesPerRequest: null })
  bull = new Queue('agents', { connection: redis, prefix: '{switchyard}' })
})
afterEach(async () => {
  await bull.close()
  redis.disconnect()
  await deployment.clear()
})

it('has its own log, result and event; between the retry and the take result() and logs() wait for it', async () => {
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'once', run: 'date +%s%N; exit 3' }] })
  const before = await job.result({ timeoutMs: 150_000 })
  await until('BullMQ to hold it as failed', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
  const stamp = before.steps[0]!.stdoutTail
  await first.stop()

  await (await bull.getJob(job.jobId))!.retry()
  let early: string | null = null
  const result = job.result({ timeoutMs: 150_000 }).then((ended) => ((early ??= 'ended'), ended))
  const text = (async () => {
    let all = ''
    for await (const line of job.logs({ follow: true })) all += line.text
    return all
  })()
  await until('the status to say that it waits', async () => (await job.status()).state === 'waiting')
  expect(early).toBeNull()
  await deployment.startConsumer()
  const second = await result
  expect(second.steps[0]!.stdoutTail).not.toBe(stamp)
  expect(await text).toContain(second.steps[0]!.stdoutTail)
  expect(await text).not.toContain(stamp)
  let whole = ''
  for await (const line of job.logs()) whole += line.text
  expect(whole).not.toContain(stamp)
  expect(second.branch).not.toBe(before.branch)
  const events = await redis.xrange(new Keys().events(), '-', '+')
  const ids = events.map(([, fields]) => fields[fields.indexOf('id') + 1])
  expect(new Set(ids).size).toBe(2)
})

it('is one also where BullMQ counts its attempts anew, however often', async () => {
  let consumer = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'once', run: 'date +%s%N; exit 3' }], push: false })
  const stamps = [(await job.result({ timeoutMs: 150_000 })).steps[0]!.stdoutTail]
  for (const options of [{ resetAttemptsMade: true, resetAttemptsStarted: true }, {}, { resetAttemptsMade: true }]) {
    await until('BullMQ to hold it as failed', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
    await consumer.stop()
    await (await bull.getJob(job.jobId))!.retry('failed', options)
    expect(await job.status()).toMatchObject({ state: 'waiting', result: null })
    const next = job.result({ timeoutMs: 150_000 })
    consumer = await deployment.startConsumer()
    stamps.push((await next).steps[0]!.stdoutTail)
  }
  expect(new Set(stamps).size).toBe(4)
  const events = await redis.xrange(new Keys().events(), '-', '+')
  expect(events.map(([, fields]) => fields[fields.indexOf('id') + 1])).toEqual([1, 2, 3, 4].map((generation) => `${job.jobId}.${generation}`))

  // Nobody has taken it: it is cancelled as what it is, the next run.
  await until('BullMQ to hold it as failed', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
  await consumer.stop()
  await (await bull.getJob(job.jobId))!.retry('failed', { resetAttemptsMade: true })
  expect(await job.cancel('not again')).toBe('cancelled')
  expect(await job.result({ timeoutMs: 5_000 })).toMatchObject({ status: 'cancelled' })
})

it('is not begun by a consumer that finds a run ended whose last holder died before it told BullMQ', async () => {
  const consumer = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['exit 3'], push: false })
  const before = await job.result({ timeoutMs: 150_000 })
  await until('BullMQ to hold it as failed', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
  await consumer.stop()
  // As it stands then: in somebody's hands still, and found stalled.
  const key = `{switchyard}:agents:${job.jobId}`
  await redis.multi().zrem('{switchyard}:agents:failed', job.jobId).hdel(key, 'finishedOn', 'failedReason', 'atm').lpush('{switchyard}:agents:active', job.jobId).exec()
  await deployment.startConsumer()
  await until('BullMQ to hold it as failed again', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
  expect(await job.result({ timeoutMs: 5_000 })).toEqual(before)
  expect(await redis.xlen(new Keys().events())).toBe(1)
})

it('that is cancelled before it is taken has the result of that, and a log of its own', async () => {
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'once', run: 'echo said-before; exit 3' }], push: false })
  await job.result({ timeoutMs: 150_000 })
  await until('BullMQ to hold it as failed', async () => (await (await bull.getJob(job.jobId))?.isFailed()) === true)
  await first.stop()
  await (await bull.getJob(job.jobId))!.retry()
  expect(await job.cancel('not again')).toBe('cancelled')
  expect(await job.result({ timeoutMs: 5_000 })).toMatchObject({ status: 'cancelled' })
  let text = ''
  for await (const line of job.logs({ follow: true })) text += line.text
  expect(text).toBe('')
})

async function pushTo(folder: string, branch: string, ephemeral: boolean): Promise<void> {
  const access = await deployment.host.writeAccess('acme/web', { branch })
  const target = new URL(ephemeral ? access.url : access.url.replace('+ephemeral.git', '.git'))
  target.username = access.username
  target.password = access.token
  await git(folder, 'push', '-q', target.href, `HEAD:refs/heads/${branch}`)
}

it('as one that Redis has lost: commits of that one stay where they are, and this one has checkpoints and a branch beside them', async () => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['date +%s%N > f', 'date +%s%N > g'], checkpoint: { everySeconds: 60 } })
  const lost = [`agent/${job.jobId}`, `checkpoint/${job.jobId}-1.1`]
  const folder = await deployment.checkout('acme/web', 'main', false)
  await git(folder, 'commit', '-q', '--allow-empty', '-m', 'Lost')
  const sha = await git(folder, 'rev-parse', 'HEAD')
  for (const branch of lost) await pushTo(folder, branch, true)
  await deployment.startConsumer()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', branch: `${lost[0]}.2` })
  let text = ''
  for await (const line of job.logs()) text += line.text
  for (const branch of lost) expect(text).toContain(`"${branch}" stands at ${sha.slice(0, 12)}, which this run did not push`)
  expect(text).not.toContain('checkpoint not saved')
  const heads = await Promise.all(lost.map((name) => deployment.host.branchHead('acme/web', { name, ephemeral: true }, { timeoutMs: 10_000 })))
  // The checkpoints have gone with the end.
  expect(heads).toEqual([sha, null])
  // The other may be a branch that a job of the same id was to keep.
  const due = await redis.zrange(new Keys().branches(), '0', '-1')
  expect(due.map((member) => member.split(/[\s"]/).find((part) => part.startsWith('agent/')))).toEqual([`${lost[0]}.2`])
})

it.each([
  ['other files: the conflict says whose promotion stands', 'lost'],
  ['the same files: its promotion is this one’s', 'same'],
])('as one that Redis has lost and that was promoted with %s', async (_what, text) => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo same > f'], promote: { to: `done-${text}`, strategy: 'ff_only' } })
  const folder = await deployment.checkout('acme/web', 'main', false)
  await writeFile(`${folder}/f`, `${text}\n`)
  await git(folder, 'add', 'f')
  await git(folder, 'commit', '-q', '-m', 'Lost')
  const sha = await git(folder, 'rev-parse', 'HEAD')
  const { host } = deployment
  await pushTo(folder, `agent/${job.jobId}`, true)
  const promote: typeof host.promote = async (...given) => {
    await pushTo(folder, `done-${text}`, false)
    return await host.promote(...given)
  }
  await deployment.startConsumer({ git: altered(host, { promote }) })
  const { status, error, promoted, branch } = await job.result({ timeoutMs: 150_000 })
  expect(branch).toBe(`agent/${job.jobId}.2`)
  if (text === 'same') {
    expect({ status, promoted }).toEqual({ status: 'succeeded', promoted: { to: 'done-same', sha, result: 'no_op' } })
    return
  }
  expect(status).toBe('failed')
  expect(error).toMatchObject({ kind: 'conflict', message: expect.stringContaining(`"done-${text}" stands at ${sha}, to where a run of this job that Redis has lost had promoted it (from "agent/${job.jobId}")`) as string })
})
