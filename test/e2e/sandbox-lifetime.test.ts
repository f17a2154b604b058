import { afterEach, expect, it } from 'vitest'
import { createProviders, type ConfiguredProvider } from '../../src/config/providers.js'
import { providerEntrySchema } from '../../src/config/schema.js'
import { startE2bServer, type E2bServer } from '../servers/e2b/server.js'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
let server: E2bServer
let providers: ConfiguredProvider[]
afterEach(async () => {
  await deployment.close()
  await Promise.all(providers.map(({ provider }) => provider.close()))
  await server.close()
})

it('a job that may outlive its sandbox is told so before its first step', async () => {
  const lifetimeSeconds = 300
  server = await startE2bServer({ plan: { maxLifetimeSeconds: lifetimeSeconds } })
  const entry = providerEntrySchema.parse({ name: 'e2b', type: 'e2b', apiUrl: server.url, sandboxUrl: server.url, maxLifetime: `${lifetimeSeconds}s`, limit: { sandboxes: 2 } })
  providers = await createProviders([entry], { environment: { E2B_API_KEY: server.apiKey } })
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await deployment.startConsumer({ providers })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [{ name: 'agent', run: 'echo begun; sleep 600' }], timeout: '10m' })
  const lines: string[] = []
  const reading = (async () => {
    for await (const line of job.logs({ follow: true })) lines.push(line.text)
  })()
  await until('the step to begin', () => lines.some((text) => text.includes('begun')), 50_000)
  const warned = lines.findIndex((text) => text.includes('of "agent" what still runs then is lost with it') && text.includes('give such a step a "resume"'))
  expect(warned).toBeGreaterThanOrEqual(0)
  expect(warned).toBeLessThan(lines.findIndex((text) => text.includes('begun')))
  await job.cancel('seen enough')
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled' })
  await reading
})
