import { createServer, type Server } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { subscribe } from '../../src/events/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { createRedis, Keys, RunStore } from '../../src/store/index.js'
import { altered } from '../providers/altered.js'
import { record } from '../store/fixture.js'
import { git, startDeployment, until, verbOf, type Deployment } from './deployment.js'
import { startInMemoryDeployment } from './in-memory-deployment.js'
import { after } from '../undo.js'

let deployment: Deployment
/** Counts who asks, and tells each its number: what a flaky test outside of a job's own sandbox looks like. */
let counter: Server
let asked = 0
let port: number
let ask: string

beforeAll(async () => {
  counter = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end(`${++asked}\n`)
  })
  await new Promise<void>((resolve) => counter.listen(0, '127.0.0.1', resolve))
  const address = counter.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  port = address.port
  ask = `$(node -e 'require("node:net").connect(${port},"127.0.0.1").pipe(process.stdout)')`
})
afterAll(() => counter.close())

beforeEach(async () => {
  asked = 0
  deployment = await startDeployment({ limits: [1], loopbackPorts: [port] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.close())

const passes = (number: number) => `n=${ask}; echo "try $n" > try.txt; [ "$n" -ge ${number} ]`

describe('a job with attempts', () => {
  it('begins again after a failed step, on a new branch, in its own place, and ends once', async () => {
    const told: string[] = []
    const subscription = subscribe({ url: deployment.redis.url }, 'test', (event) => Promise.resolve(void told.push(event.id)))
    try {
      await deployment.startConsumer()
      const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo first > first.txt', { name: 'flaky', run: passes(2) }], attempts: 3, promote: { to: 'done' } })
      const next = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({
        status: 'succeeded',
        branch: `agent/${job.jobId}-1.2`,
        promoted: { to: 'done', sha: result.commit },
        steps: [{ name: 'step 1', exitCode: 0 }, { name: 'flaky', exitCode: 0 }],
        attempts: [{ outcome: 'failed', error: { kind: 'step-failed', message: 'flaky exited with code 1' } }, { outcome: 'succeeded', error: null }],
      })
      expect(result.attempts[1]!.sandboxId).not.toBe(result.attempts[0]!.sandboxId)
      // With one place for all, the other job began when this one had ended.
      const other = await next.result({ timeoutMs: 150_000 })
      expect(Date.parse(other.attempts[0]!.startedAt)).toBeGreaterThanOrEqual(Date.parse(result.attempts[1]!.endedAt!) - 1)

      const folder = await deployment.checkout('acme/web', 'done', false)
      expect(await git(folder, 'show', 'HEAD:try.txt')).toBe('try 2')
      expect(await git(folder, 'log', '--format=%(trailers:key=Agent-Attempt,valueonly,separator=%x2C)', '-1')).toBe('2')
      expect(await git(folder, 'rev-list', '--count', `${result.baseSha!}..HEAD`)).toBe('1')
      const failed = await deployment.checkout('acme/web', `agent/${job.jobId}`, true)
      expect(await git(failed, 'show', 'HEAD:try.txt')).toBe('try 1')

      await until('the events', () => told.includes(`${next.jobId}.1`))
      expect(told.filter((id) => id.startsWith(job.jobId))).toEqual([`${job.jobId}.1`])
      let log = ''
      for await (const line of job.logs()) log += line.text
      expect(log).toContain('attempt 1 of 3 failed (step-failed): flaky exited with code 1; the job begins again')
    } finally {
      await subscription.close()
    }
  })

  it('has its whole time in each of them, and fails with the last error', async () => {
    const inMemory = await startInMemoryDeployment({ limits: [1] })
    after(() => inMemory.close())
    await inMemory.startConsumer()
    const job = await inMemory.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], attempts: 2, timeout: '2s' })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'failed', error: { kind: 'timeout' }, attempts: [{ outcome: 'failed', error: { kind: 'timeout' } }, { outcome: 'failed', error: { kind: 'timeout' } }] })
    const [first, second] = result.attempts
    expect(Date.parse(second!.startedAt)).toBeGreaterThanOrEqual(Date.parse(first!.endedAt!))
  })

  it('is not run again for what would be the same again, and a cancel ends all of them', async () => {
    await deployment.startConsumer()
    const secret = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], attempts: 3, secrets: ['NOT_THERE'] })
    expect(await secret.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'failed', error: { kind: 'invalid' }, attempts: [] })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [`n=${ask}; [ "$n" = 1 ] && exit 1; sleep 600`], attempts: 3, push: false })
    await until('the second attempt', async () => (await job.status()).attempts === 2 && asked === 2)
    await job.cancel('enough')
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'failed' }, { outcome: 'cancelled' }] })
  })

  it('goes on in its second attempt when its consumer is killed', async () => {
    const first = await deployment.startConsumerProcess()
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [`n=${ask}; echo "$n" >> tries.txt; [ "$n" = 1 ] && exit 1; sleep 3`], attempts: 2 })
    await until('the second attempt', () => asked === 2)
    first.kill('SIGKILL')
    await deployment.startConsumer()
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', branch: `agent/${job.jobId}-1.2`, attempts: [{ outcome: 'failed' }, { outcome: 'succeeded' }] })
    expect(asked).toBe(2)
  })
})

describe('once where it counts', () => {
  const lost = (source: string) => new InfrastructureError({ kind: 'transient', source, message: `${source}: the answer was lost` })

  it('a promotion and a final push whose answers are lost are made once', async () => {
    const { host } = deployment
    const promote = host.promote.bind(host)
    let promotions = 0
    host.promote = async (request, options) => {
      const done = await promote(request, options)
      if (++promotions === 1) throw lost('code-storage')
      return done
    }
    const local = deployment.providers[0]!
    let pushes = 0
    const provider = altered(local, {
      exec: async (id, command, options) => {
        const done = await local.exec(id, command, options)
        if (/ '?push'? /.test(command.script) && command.env?.['SWITCHYARD_TOKEN'] !== undefined && ++pushes === 1) throw lost('local-a')
        return done
      },
    })
    await deployment.startConsumer({ providers: [{ provider, limit: { sandboxes: 1 } }] })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo new > new.txt'], promote: { to: 'main', strategy: 'merge' } })
    const result = await job.result({ timeoutMs: 150_000 })
    expect([pushes > 1, promotions]).toEqual([true, 2])
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], promoted: { to: 'main' } })
    const folder = await deployment.checkout('acme/web', 'main', false)
    expect(await git(folder, 'rev-list', '--merges', '--count', 'HEAD')).toBe('1')
    expect(await git(folder, 'rev-list', '--no-merges', '--count', `${result.baseSha!}..HEAD`)).toBe('1')
  })

  it.each(['the final push', 'the promotion'])('a consumer that lost its fence right before %s does not make it', async (what) => {
    const { host } = deployment
    const redis = createRedis({ url: deployment.redis.url }, 'commands')
    const store = new RunStore(redis, new Keys())
    let taken = false
    /** Another consumer takes the job over at this very moment. */
    const takeOver = async (jobId: string) => {
      if (taken) return
      taken = true
      await store.acquire(jobId, { holder: 'another', fresh: record(jobId) })
    }
    let jobId = ''
    const writeAccess = host.writeAccess.bind(host)
    host.writeAccess = async (repository, options) => {
      const access = await writeAccess(repository, options)
      if (what === 'the final push' && options.branch.startsWith('agent/')) await takeOver(jobId)
      return access
    }
    const branchHead = host.branchHead.bind(host)
    host.branchHead = async (repository, branch, options) => {
      const head = await branchHead(repository, branch, options)
      // `promoting` asks for the target right before; so does the job's beginning, when there is no sandbox yet.
      if (what === 'the promotion' && (await store.read(jobId))?.record?.phase === 'promoting') await takeOver(jobId)
      return head
    }
    const made: string[] = []
    const promote = host.promote.bind(host)
    host.promote = (request, options) => {
      made.push('promotion')
      return promote(request, options)
    }
    const local = deployment.providers[0]!
    const provider = altered(local, {
      exec: (id, command, options) => {
        if (verbOf(command) === 'push') made.push('push')
        return local.exec(id, command, options)
      },
    })
    try {
      const consumer = await deployment.startConsumer({ providers: [{ provider, limit: { sandboxes: 1 } }] })
      const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo new > new.txt'], promote: { to: 'main', strategy: 'merge' } })
      jobId = job.jobId
      // It puts the job back, and takes it again as whoever comes next would: once each, from there on.
      const result = await job.result({ timeoutMs: 150_000 })
      expect(taken).toBe(true)
      expect(result).toMatchObject({ status: 'succeeded' })
      expect(made.sort()).toEqual(['promotion', 'push'])
      expect((await store.read(jobId))?.fence).toBeGreaterThanOrEqual(3)
      await consumer.stop()
    } finally {
      redis.disconnect()
    }
  })
})
