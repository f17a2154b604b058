import { afterEach, beforeEach, expect, it } from 'vitest'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeEach(async () => {
  deployment = await startDeployment({ limits: [1, 1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.close())

const priced = () => deployment.providers.map((provider, index) => ({ provider, limit: { sandboxes: 1 }, price: { perSandboxHour: 36 * (index + 1), perCreate: 0.5, minimumSeconds: 2 } }))

it('a lost sandbox and the one after it cost what their providers ask, in the result, the event, the status and the tenant’s day', { timeout: 300_000 }, async () => {
  const { queue } = deployment
  await deployment.startConsumer({ providers: priced(), policy: 'cheapest', costs: { currency: 'EUR' }, settings: { readWaitMs: 500 } })
  const job = await queue.enqueue({ repository: 'acme/web', tenant: 'acme', steps: [`[ "$SWITCHYARD_ATTEMPT" = 2 ] || sleep 600`] })
  const running = await until('it runs', async () => (await job.status()).step !== null).then(() => job.status())
  expect(running).toMatchObject({ provider: 'local-a', cost: { currency: 'EUR' } })
  // Half a euro for the create, and two seconds at least.
  expect(running.cost!.micros).toBeGreaterThanOrEqual(520_000)
  await deployment.providers[0]!.kill(running.sandboxId!, { timeoutMs: 10_000 })
  const result = await job.result({ timeoutMs: 150_000 })
  const [lost, done] = result.attempts.map(({ cost }) => cost!)
  expect(result.attempts.map(({ outcome, provider }) => [outcome, provider])).toEqual([['lost', 'local-a'], ['succeeded', 'local-b']])
  expect(lost!.micros).toBeGreaterThanOrEqual(520_000)
  expect(done!.micros).toBeGreaterThanOrEqual(540_000)
  expect(result.usage.cost).toEqual({ micros: lost!.micros + done!.micros, currency: 'EUR' })
  expect((await job.status()).cost).toEqual(result.usage.cost)
  const [told] = await queue.events.read()
  expect(told?.event?.data).toMatchObject({ jobId: job.jobId, usage: result.usage })
  expect((await queue.costs({ tenant: 'acme' })).map(({ micros, currency }) => [micros, currency])).toEqual([[result.usage.cost!.micros, 'EUR']])
})

it('over hand-overs a sandbox is counted once and whole, whatever the consumers’ clocks say', { timeout: 300_000 }, async () => {
  const { queue } = deployment
  const first = await deployment.startConsumer({ providers: priced(), settings: { readWaitMs: 500 } })
  const job = await queue.enqueue({ repository: 'acme/web', steps: ['while [ ! -e done ]; do sleep 0.1; done'], timeout: '2d' })
  await until('it runs', async () => (await job.status()).step !== null)
  await first.stop()
  // Another machine, a day ahead.
  await deployment.startConsumer({ providers: priced(), now: () => Date.now() + 86_400_000, settings: { readWaitMs: 500 } })
  const { sandboxId } = await job.status()
  await job.cancel('enough')
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result.attempts).toMatchObject([{ sandboxId }])
  // Not a day of it: an hour of the dearer one at the very most.
  expect(result.usage.cost!.micros).toBeLessThan(500_000 + 72_000_000)
})
