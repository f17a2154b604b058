import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import { spanning } from '../whole.js'
import { altered, startDeployment, until, verbOf, type Deployment } from './deployment.js'

// Whatever an older job does as a newer one comes for its key: from then on it changes neither its branch nor the target, or it was there first. In a step CI has
// it in concurrency.test.ts.
let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [6] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
}, 300_000)
afterEach(() => deployment.clear(), 60_000)
afterAll(() => deployment.close(), 120_000)

/** The nth call of one kind is held before or after it was made, whether or not its caller still waits for it. */
class Hold {
  reached = false
  private calls = 0
  private free: () => void = () => undefined
  private readonly freed = new Promise<void>((resolve) => (this.free = resolve))
  constructor(
    private readonly call: string,
    private readonly when: 'before' | 'after',
    private readonly nth = 1,
  ) {}

  release(): void {
    this.free()
  }

  async around<Answer>(call: string, work: () => Promise<Answer>): Promise<Answer> {
    const holds = call === this.call && ++this.calls === this.nth
    const wait = async () => {
      this.reached = true
      await this.freed
    }
    if (holds && this.when === 'before') await wait()
    const answer = await work()
    if (holds && this.when === 'after') await wait()
    return answer
  }
}

async function consume(hold: Hold): Promise<void> {
  const { host } = deployment
  const [real] = deployment.providers
  const provider = altered(real!, {
    create: (...call) => hold.around('create', () => real!.create(...call)),
    exec: (...call) => hold.around(verbOf(call[1]), () => real!.exec(...call)),
  })
  const git = altered(host, { promote: (...call) => hold.around('promote', () => host.promote(...call)), diff: (...call) => hold.around('diff', () => host.diff(...call)) })
  await deployment.startConsumer({ git, providers: [{ provider, limit: { sandboxes: 6 } }], settings: { reapGraceMs: 1_000, reapIntervalMs: 1_000 } })
}

const enqueue = (step: string, more: Partial<JobSpecInput> = {}) =>
  deployment.queue.enqueue({ repository: 'acme/web', setup: ['true'], steps: [step, `${step}; true`], promote: { to: 'main' }, concurrency: { key: 'k', then: 'cancel-running' }, ...more })
const headOf = (name: string, ephemeral: boolean) => deployment.host.branchHead('acme/web', { name, ephemeral }, { timeoutMs: 10_000 })
const result = (job: JobHandle) => job.result({ timeoutMs: 60_000 })

/** The newer one has gone its way, and the older one can do nothing more. */
async function isSuperseded(older: JobHandle, newer: JobHandle, hold: Hold): Promise<void> {
  const won = await result(newer)
  expect(won).toMatchObject({ status: 'succeeded', promoted: { to: 'main' } })
  hold.release()
  expect(await result(older)).toMatchObject({ status: 'cancelled', error: { code: 'SWY_SUPERSEDED', message: `superseded by job ${newer.jobId}` }, promoted: null })
  // What was under way when it was superseded may take its time.
  await until('its sandboxes are gone', async () => {
    for await (const { tags } of deployment.providers[0]!.list({}, { timeoutMs: 10_000 })) if (Object.values(tags).includes(older.jobId)) return false
    return true
  })
  expect(await headOf('main', false)).toBe(won.promoted?.sha)
  expect(await headOf(`agent/${older.jobId}`, true)).toBeNull()
}

type Row = readonly [at: string, call: string, when: 'before' | 'after']
const before = (call: string): Row => [`before ${call}`, call, 'before']
const after = (call: string): Row => [`after ${call}`, call, 'after']

describe('a newer job that comes', { timeout: 120_000 }, () => {
  it.each(
    spanning([before('create'), after('create'), before('clone'), after('clone'), before('start'), after('start'), before('push-checkpoint'), after('push-checkpoint')]),
  )('takes the key from the older one %s', async (_at, call, when) => {
    const hold = new Hold(call, when)
    await consume(hold)
    const older = await enqueue('echo older >> file')
    await until('the older one is there', () => hold.reached)
    await isSuperseded(older, await enqueue('echo newer >> file'), hold)
  })

  it.each(
    spanning([before('commit'), before('push'), after('push'), before('diff'), before('promote'), after('promote')], 'before push'),
  )('waits for the older one %s, and builds on it', async (_at, call, when) => {
    const hold = new Hold(call, when)
    await consume(hold)
    const older = await enqueue('echo older >> file')
    await until('the older one is there', () => hold.reached)
    const newer = await enqueue('echo newer >> file')
    await until('the newer one waits for it', async () => (await newer.status()).reason?.includes(older.jobId) === true)
    hold.release()
    const first = await result(older)
    expect(first).toMatchObject({ status: 'succeeded', promoted: { to: 'main' } })
    expect(await result(newer)).toMatchObject({ status: 'succeeded', baseSha: first.promoted?.sha })
  })

  it.each(spanning([before('push-checkpoint'), before('commit'), before('push')], 'before push'))('takes the key from the older one that has lost its sandbox %s, and is to be placed anew', async (_at, call) => {
    const lost = new Hold(call, 'before')
    const second = new Hold('create', 'before', 2)
    const both = altered(lost, { around: <Answer>(name: string, work: () => Promise<Answer>) => second.around(name, () => lost.around(name, work)) })
    await consume(both)
    const older = await enqueue('echo older >> file')
    await until('the older one is there', () => lost.reached)
    await deployment.providers[0]!.kill((await older.status()).sandboxId!, { timeoutMs: 10_000 })
    lost.release()
    await until('it is made anew', () => second.reached)
    await isSuperseded(older, await enqueue('echo newer >> file'), second)
  })
})
