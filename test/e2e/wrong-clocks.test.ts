import { afterEach, expect, it } from 'vitest'
import { until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// Consumers' machines whose clocks differ by hours hand jobs to each other: what counts is the time that goes by.
let deployment: InMemoryDeployment
afterEach(() => deployment.close())

const hours = 3_600_000

it.each([
  ['ahead', [0, 2 * hours, 0]],
  ['behind', [2 * hours, 0, 2 * hours]],
  ['behind, and further', [0, -2 * hours, -4 * hours]],
])('a job is handed to a consumer whose clock is %s, and ends neither early nor late', async (_what, clocks) => {
  deployment = await startInMemoryDeployment()
  const consumers: { stop(): Promise<void> }[] = []
  const start = async (byMs: number) => {
    const [before] = consumers.splice(0)
    consumers.push(await deployment.startConsumer({ now: () => Date.now() + byMs }))
    await before?.stop()
  }
  await start(clocks[0]!)
  const spec = { repository: 'acme/web', push: false as const }
  const [ends, step, job] = await deployment.queue.enqueueMany([
    { ...spec, timeout: '1h', steps: [{ run: 'sleep 3000', timeout: '30m' }] },
    { ...spec, timeout: '1h', steps: [{ run: 'sleep 3000', timeout: '8s' }] },
    { ...spec, timeout: '8s', steps: ['sleep 3000'] },
  ])
  const running = async () => (await Promise.all([ends!, step!, job!].map((each) => each.status()))).every(({ step: each, sandboxId }) => each !== null && sandboxId !== null)
  await until('all to run', running)
  for (const byMs of clocks.slice(1)) await start(byMs)
  expect((await step!.result({ timeoutMs: 150_000 })).error?.message).toBe('step 1 did not end within its timeout')
  expect((await job!.result({ timeoutMs: 150_000 })).error?.message).toBe('the job did not end within its timeout of 8 s')
  for (const provider of deployment.providers) for await (const { id } of provider.list({})) provider.finish(id)
  const result = await ends!.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  expect(result.usage.sandboxSeconds).toBeLessThan(1_800)
}, 600_000)
