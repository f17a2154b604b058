import { afterAll, beforeAll, expect, it } from 'vitest'
import { createRedis, Keys } from '../../src/store/index.js'
import { daysAround } from '../../src/job/days.js'
import type { JobHandle } from '../../src/producers/index.js'
import { startDeployment, until, type Deployment } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

/** A second of sandbox costs one dollar here. */
const price = { perSandboxHour: 3_600 }
const periodMs = 3_000

let deployment: Deployment
/** For what is shown without any work to be kept. */
let inMemory: InMemoryDeployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [1] })
  inMemory = await startInMemoryDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const options = { settings: { readWaitMs: 500, budgetPeriodMs: periodMs }, costs: { budgets: { small: 2, acme: 100_000, steps: 100_000, many: 70 } } }
  await deployment.startConsumer({ ...options, providers: deployment.providers.map((provider) => ({ provider, limit: { sandboxes: 1 }, price })), eventTypes: ['parked'] })
  await inMemory.startConsumer({ ...options, providers: inMemory.providers.map((provider) => ({ provider, limit: { sandboxes: 1 }, price })) })
}, 300_000)
afterAll(async () => {
  await deployment.close()
  await inMemory.close()
}, 60_000)

async function isParked(job: JobHandle): Promise<void> {
  await until('it is parked', async () => {
    const { state, result } = await job.status()
    if (result !== null) throw new Error(`it ended: ${JSON.stringify(result)}`)
    return state === 'parked'
  }, 300_000)
}

async function said(job: JobHandle, text: string): Promise<void> {
  for await (const line of job.logs({ follow: true })) if (line.text.includes(text)) return
}

async function logOf(job: JobHandle): Promise<string> {
  let text = ''
  for await (const line of job.logs({ follow: false })) text += line.text
  return text
}

async function sandboxes(): Promise<number> {
  let count = 0
  for await (const _ of deployment.providers[0]!.list({}, { timeoutMs: 10_000 })) count++
  return count
}

it('is parked within a step that has a resume when its tenant’s budget is lowered, and goes on where it was when that is raised', { timeout: 600_000 }, async () => {
  const { queue } = deployment
  const job = await queue.enqueue({
    repository: 'acme/web',
    tenant: 'acme',
    timeout: '2h',
    checkpoint: { everySeconds: 3_600, paths: ['~/.memory'] },
    steps: [
      { name: 'first', run: 'echo first >> first.txt' },
      { name: 'agent', run: 'mkdir -p ~/.memory; echo remembered > ~/.memory/it; echo begun > begun.txt; echo is begun; sleep 3000', resume: 'cat ~/.memory/it begun.txt first.txt' },
    ],
  })
  await said(job, 'is begun')
  expect(await queue.budgets.setTenant('acme', 1, { id: 'operator', name: 'anna' })).toEqual({ changed: true, before: null })
  await isParked(job)
  const parked = await job.status()
  expect(parked).toMatchObject({ provider: null, sandboxId: null, cost: { currency: 'USD' } })
  expect(parked.reason).toMatch(/^waits for tenant acme's budget: [\d.]+(?: and [\d.]+ reserved)? of 1\.00 USD spent today.*; raise it or wait until 00:00 UTC$/)
  expect((await queue.list({ state: 'parked' })).map(({ jobId }) => jobId)).toEqual([job.jobId])
  // Its sandbox is dead, and its place another job's.
  await until('its sandbox is gone', async () => (await sandboxes()) === 0)
  const other = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
  expect((await other.result({ timeoutMs: 300_000 })).status).toBe('succeeded')
  // It costs nothing until the day turns.
  const redis = createRedis({ url: deployment.redis.url }, 'commands')
  const turns = daysAround(Date.now(), 'UTC').map(({ startsAtMs }) => startsAtMs)
  await until('it waits for the day to turn', async () => turns.includes(Math.floor(Number(await redis.zscore(new Keys().bullmq('delayed'), job.jobId)) / 0x1000)))
  redis.disconnect()
  await queue.budgets.setTenant('acme', 50_000)
  const result = await job.result({ timeoutMs: 300_000 })
  expect(result, await logOf(job)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'parked' }, { outcome: 'succeeded' }], steps: [{ name: 'first' }, { name: 'agent', stdoutTail: 'remembered\nbegun\nfirst\n' }] })
  expect(result.usage.cost!.micros).toBe(result.attempts.reduce((sum, { cost }) => sum + cost!.micros, 0))
  expect((await queue.costs({ tenant: 'acme' }))[0]?.micros).toBe(result.usage.cost!.micros)
  expect((await queue.budgets.list()).tenants.find(({ tenant }) => tenant === 'acme')).toMatchObject({ micros: 50_000_000_000, spentMicros: result.usage.cost!.micros, reservedMicros: 0 })
  expect(await queue.operations.auditLog({ limit: 1 })).toMatchObject([{ name: '', action: 'setTenantBudget', targets: ['acme'], before: 1_000_000, after: 50_000_000_000 }])
  const told = await queue.events.read({ types: ['parked'] })
  // What its own end gave back is no reason to ask again.
  expect(told).toHaveLength(1)
  for (const { event } of told) expect(event?.data).toMatchObject({ jobId: job.jobId, attempt: 1, tenant: 'acme', reason: expect.stringMatching(/^waits for tenant acme's budget: /) as string })
})

it('is parked at the end of a step that has no resume, with its work, and does not run it again', { timeout: 600_000 }, async () => {
  const { queue } = deployment
  const job = await queue.enqueue({
    repository: 'acme/web',
    tenant: 'steps',
    timeout: '10m',
    steps: [{ name: 'first', run: 'echo first >> first.txt; echo is begun; sleep 2', timeout: '60s' }, { name: 'second', run: 'cat first.txt', timeout: '50s' }],
  })
  await said(job, 'is begun')
  await queue.budgets.setTenant('steps', 1)
  await isParked(job)
  expect(await job.status()).toMatchObject({ attempts: 1, checkpointProblem: null })
  await queue.budgets.setTenant('steps', null)
  const result = await job.result({ timeoutMs: 300_000 })
  expect(result, await logOf(job)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'parked' }, { outcome: 'succeeded' }], steps: [{ name: 'first' }, { name: 'second', stdoutTail: 'first\n' }] })
})

it('keeps those behind it in the queue, unbegun and with the reason, until the budget is raised', { timeout: 600_000 }, async () => {
  const { queue } = inMemory
  // It leaves too little of the day for any of the others.
  const [first, ...others] = await queue.enqueueMany(['sleep 6', 'true', 'true', 'true'].map((run) => ({ repository: 'acme/web', tenant: 'many', push: false, timeout: '66s', steps: [run] })))
  expect(await first!.result({ timeoutMs: 300_000 })).toMatchObject({ status: 'succeeded' })
  await until('one is parked, and those behind it wait', async () => {
    const found = await Promise.all(others.map(async (job) => await job.status()))
    const waiting = found.filter(({ state, reason }) => state === 'waiting' && /^waits for tenant many's budget: .* of 70\.00 USD spent today, and it needs at least 65\.536 USD; raise it or wait until 00:00 UTC$/.test(reason ?? ''))
    return waiting.length === 2 && found.filter(({ state }) => state === 'parked').length === 1
  }, 300_000)
  // Those have been in nobody's hands.
  const redis = createRedis({ url: inMemory.redis.url }, 'commands')
  const runs = await Promise.all(others.map(async ({ jobId }) => await redis.exists(new Keys().run(jobId))))
  redis.disconnect()
  expect(runs.filter((run) => run === 1)).toHaveLength(1)
  await queue.budgets.setTenant('many', 50_000)
  for (const job of others) expect(await job.result({ timeoutMs: 300_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
})

it('that can’t pay for a step’s timeout, or for that of a job that can’t be saved, never begins', { timeout: 600_000 }, async () => {
  const { queue } = inMemory
  const jobs = await queue.enqueueMany([
    { repository: 'acme/web', tenant: 'small', steps: [{ run: 'true', timeout: '3s' }] },
    { repository: 'acme/web', budget: { amount: 1_000 }, push: false, timeout: '1001s', steps: ['true'] },
    { repository: 'acme/web', budget: { amount: 1_000 }, push: false, timeout: '1000s', steps: ['true'] },
  ])
  const [tenant, own, fits] = await Promise.all(jobs.map((job) => job.result({ timeoutMs: 300_000 })))
  expect(tenant).toMatchObject({ status: 'failed', attempts: [], error: { code: 'SWY_BUDGET_TOO_SMALL', owner: 'job', message: expect.stringMatching(/^tenant small's budget of a day of 2\.00 USD can't pay for .*, 3\.00 USD; raise it, give the step a shorter timeout, or a resume/) as string } })
  expect(own).toMatchObject({ status: 'failed', attempts: [], error: { code: 'SWY_BUDGET_TOO_SMALL', message: expect.stringMatching(/^the job’s budget of 1000\.00 USD/) as string } })
  expect(fits?.status).toBe('succeeded')
})

it('that is parked twice without progress fails, and says so', { timeout: 600_000 }, async () => {
  const { queue } = inMemory
  const job = await queue.enqueue({ repository: 'acme/web', budget: { amount: 5 }, setup: ['sleep 3000'], checkpoint: { paths: ['~/.memory'] }, steps: [{ name: 'agent', run: 'true', resume: 'true' }] })
  await isParked(job)
  expect((await job.status()).reason).toMatch(/^waits for its own budget: .* of 5\.00 USD spent.*; raise it$/)
  await queue.budgets.setJob(job.jobId, 20)
  const result = await job.result({ timeoutMs: 300_000 })
  expect(result).toMatchObject({ status: 'failed', error: { code: 'SWY_BUDGET_NO_PROGRESS', owner: 'job' }, attempts: [{ outcome: 'parked' }, { outcome: 'failed' }] })
  expect(result.error?.message).toContain('a second time at the same place, before or within agent')
})

it('that is cancelled while it is parked ends', { timeout: 600_000 }, async () => {
  const { queue } = inMemory
  const job = await queue.enqueue({ repository: 'acme/web', budget: { amount: 4 }, setup: ['sleep 3000'], checkpoint: { paths: ['~/.memory'] }, steps: [{ run: 'true', resume: 'true' }] })
  await isParked(job)
  await job.cancel('not needed')
  expect(await job.result({ timeoutMs: 300_000 })).toMatchObject({ status: 'cancelled', error: { message: 'not needed' }, attempts: [{ outcome: 'parked' }] })
})

it('leaves nothing of its budget behind', async () => {
  for (const { url } of [deployment.redis, inMemory.redis]) {
    const redis = createRedis({ url }, 'commands')
    const left = (await redis.keys('*costs*')).filter((key) => !/:day:|:(?:caps|configured|arrivals)$/.test(key))
    redis.disconnect()
    expect(left).toEqual([])
  }
})
