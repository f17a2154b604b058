import { execFile } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { startRedis } from '../../src/embedded/index.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import { startTcpProxy, type TcpProxy } from '../servers/tcp-proxy.js'
import { spanning, whole } from '../whole.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// Redis goes away while jobs run: no job is lost, doubled or failed, no step runs again, no byte is lost or doubled.
// SWITCHYARD_SOAK=1 keeps Redis away for a minute; otherwise it is for some leases of these consumers. CI tries an outage and a failover, and
// `npm run test:long` every way in which Redis goes away.
const awayMs = process.env['SWITCHYARD_SOAK'] === undefined ? 5_000 : 60_000
const lines = process.env['SWITCHYARD_SOAK'] === undefined ? 80 : 700

const jobs = whole ? 3 : 2

let deployment: Deployment
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await deployment.close()
  for (const step of undo.splice(0).reverse()) await step()
})

const counting = `echo began; i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "out $i"; echo "err $i" >&2; [ $((i % 5)) -gt 0 ] || sleep 0.5; done; echo x >> runs.txt; cat runs.txt`
const numbered = (stream: string) => Array.from({ length: lines }, (_, index) => `${stream} ${index + 1}\n`).join('')

async function output(job: JobHandle): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' }
  for await (const line of job.logs({ follow: false })) if (line.stream !== 'system') text[line.stream] += line.text
  return text
}

/** Jobs under way at two consumers, one each in CI, and one more that waits in the queue for a place. */
async function begin(options: Parameters<typeof startDeployment>[0] = {}): Promise<{ running: JobHandle[]; waiting: JobHandle }> {
  deployment = await startDeployment({ limits: [jobs], appendOnly: true, ...options })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
  const running = await Promise.all(Array.from({ length: jobs }, () => deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })))
  const waiting = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x >> runs.txt; cat runs.txt'], push: false })
  for (const job of running) await until('output', async () => (await output(job)).stdout.includes('out 10\n'))
  return { running, waiting }
}

async function resultOf(job: JobHandle): Promise<JobResult> {
  // A producer's own call fails at once while Redis is away; one that waits goes on.
  await until('Redis to answer', () => job.status().then(() => true, () => false), 60_000)
  return job.result({ timeoutMs: 120_000 })
}

async function expectUnharmed({ running, waiting }: { running: JobHandle[]; waiting: JobHandle }, exact = true): Promise<void> {
  for (const job of running) {
    expect(await resultOf(job)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ exitCode: 0 }], diff: { additions: 1 } })
    const { stdout, stderr } = await output(job)
    expect(stdout.split('began\n')).toHaveLength(2)
    if (exact) {
      expect(stdout).toBe(`began\n${numbered('out')}x\n`)
      expect(stderr).toBe(numbered('err'))
    }
  }
  expect(await resultOf(waiting)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ stdoutTail: 'x\n' }] })
}

it.runIf(whole)('restarted with its append-only file', async () => {
  const jobs = await begin()
  await deployment.redis.restart()
  await expectUnharmed(jobs)
}, 300_000)

it('gone for longer than the leases, and back', async () => {
  const jobs = await begin()
  await deployment.redis.kill('SIGTERM')
  await delay(awayMs)
  await deployment.redis.restart()
  await expectUnharmed(jobs)
}, 300_000)

it.runIf(whole)('killed: what it had not written yet is written again by whoever supervises', async () => {
  const jobs = await begin()
  await deployment.redis.kill('SIGKILL')
  await deployment.redis.restart()
  // Up to a second of output of steps under way may be missing in the log; see docs/architecture.md.
  await expectUnharmed(jobs, false)
}, 300_000)

it.runIf(whole)('frozen for longer than the leases', async () => {
  const jobs = await begin()
  deployment.redis.freeze()
  await delay(awayMs)
  deployment.redis.thaw()
  await expectUnharmed(jobs)
}, 300_000)

it.each(spanning<[string, (proxy: TcpProxy) => void]>([
  ['cut off', (proxy) => proxy.cut()],
  ['gone without a word', (proxy) => proxy.silence()],
], 'gone without a word'))('failed over to its replica, the primary %s', async (_what, end) => {
  let proxy: TcpProxy | undefined
  const jobs = await begin({
    address: async (redis) => {
      proxy = await startTcpProxy(redis.port!)
      undo.push(() => proxy!.close())
      return `redis://:${encodeURIComponent(redis.connection.password)}@127.0.0.1:${proxy.port}`
    },
  })
  const { password } = deployment.redis.connection
  const replica = await startRedis({ password })
  undo.push(() => replica.close())
  const admin = new Redis(replica.url)
  try {
    await admin.config('SET', 'masterauth', password)
    await admin.replicaof('127.0.0.1', deployment.redis.port!)
    const info = async (field: string) => new RegExp(`${field}:(\\S+)`).exec(await admin.info('replication'))?.[1]
    await until('the replica to follow', async () => (await info('master_link_status')) === 'up')
    await delay(1_000)
    // As a failover does it: the primary is stopped, the replica takes over, the address leads to it.
    deployment.redis.freeze()
    await admin.replicaof('NO', 'ONE')
    proxy!.target(replica.port!)
    end(proxy!)
    await expectUnharmed(jobs, false)
    deployment.redis.thaw()
  } finally {
    admin.disconnect()
  }
}, 300_000)

// What Redis holds is older than a lease by then: nobody remembers anything of what came after.
it.runIf(whole)('goes back to where a job ran that has ended since, and to where one waited: they are run again, beside what they had pushed', async () => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const consumer = await deployment.startConsumer()
  const running = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['date +%s%N > f', 'echo second; date +%s%N > g; sleep 3'], checkpoint: { everySeconds: 1 } })
  await until('a checkpoint within the second step', async () => (await output(running)).stdout.includes('second') && (await running.status()).checkpointSha !== null)
  const waiting = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['date +%s%N > f'], delay: '1500ms' })
  const admin = new Redis(deployment.redis.url)
  await admin.save()
  admin.disconnect()
  const before = await Promise.all([running, waiting].map((job) => job.result({ timeoutMs: 60_000 })))
  await consumer.stop()
  // The checkpoint went with the end; hosts clear away what no branch leads to.
  const prune = `for head in $(find "$1" -name HEAD -not -path '*/logs/*'); do git -C "$(dirname "$head")" gc -q --prune=now; done`
  await promisify(execFile)('sh', ['-ec', prune, 'sh', `${deployment.dir}/storage`])
  await deployment.redis.kill('SIGKILL')
  await deployment.redis.restart()
  await deployment.startConsumer()
  const [again, anew] = await Promise.all([resultOf(running), resultOf(waiting)])
  expect(before.map(({ status }) => status)).toEqual(['succeeded', 'succeeded'])
  expect(again).toMatchObject({ status: 'succeeded', branch: `${before[0]!.branch}.2`, attempts: [{ outcome: 'lost' }, { outcome: 'succeeded' }] })
  expect(anew).toMatchObject({ status: 'succeeded', branch: `${before[1]!.branch}.2` })
  for (const { branch, commit } of [...before, again, anew]) expect(await deployment.host.branchHead('acme/web', { name: branch!, ephemeral: true }, { timeoutMs: 10_000 })).toBe(commit)
  const { stdout } = await output(running)
  expect(stdout.split('second')).toHaveLength(3)
}, 300_000)

it.runIf(whole)('refuses to write for a while, because its memory is full', async () => {
  const jobs = await begin()
  const admin = new Redis(deployment.redis.url)
  try {
    await admin.config('SET', 'maxmemory', '1')
    await delay(4_000)
    await admin.config('SET', 'maxmemory', '0')
    await expectUnharmed(jobs)
  } finally {
    admin.disconnect()
  }
}, 300_000)

it.runIf(whole)('away while a consumer is stopped: it ends all the same, and another one finds its jobs', async () => {
  const jobs = await begin()
  const third = await deployment.startConsumer()
  await deployment.redis.kill('SIGTERM')
  await third.stop()
  await deployment.redis.restart()
  await expectUnharmed(jobs)
  // Nothing of it comes back, neither a connection of BullMQ's own.
  const admin = new Redis(deployment.redis.url)
  const names = ((await admin.call('CLIENT', 'LIST')) as string).match(/name=\{switchyard\}:\w+(?= )/g) ?? []
  admin.disconnect()
  expect(names).toHaveLength(2)
}, 300_000)
