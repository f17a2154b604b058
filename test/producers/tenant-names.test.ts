import { afterAll, describe, expect, it } from 'vitest'
import { configSchema } from '../../src/config/schema.js'
import { ApiKeys } from '../../src/http/api-keys.js'
import { startRedis } from '../../src/embedded/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys, ReadyJobs } from '../../src/store/index.js'

/** What is refused needs no Redis. */
const queue = new AgentQueue({ redis: { url: 'redis://127.0.0.1:1' } })
afterAll(() => queue.close())

const by = { id: 'operator', name: '' }
const ways: Readonly<Record<string, (tenant: string) => unknown>> = {
  'a job': (tenant) => queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant }),
  'a schedule': (tenant) => queue.schedules.upsert('nightly', { every: '1h', job: { repository: 'acme/web', steps: ['true'], tenant } }),
  'a pause': (tenant) => queue.operations.pauseTenant(tenant, { by }),
  'a share': (tenant) => queue.operations.shareTenant(tenant, { weight: 2 }, { by }),
  'a budget': (tenant) => queue.budgets.setTenant(tenant, 5),
  'an API key': (tenant) => new ApiKeys(queue).create({ name: 'ci', scope: 'write', tenants: [tenant] }),
  'the configuration': (tenant) => {
    const { error } = configSchema.safeParse({ tenants: { [tenant]: { weight: 2 } } })
    return Promise.reject(new Error(error?.issues.filter(({ path }) => path[0] === 'tenants').map((issue) => JSON.stringify(issue)).join(' ')))
  },
}

describe.each(Object.entries(ways))('a tenant’s name in %s', (_name, way) => {
  it.each(['\ud800', 'b\udc00'])('holds no half of a character: %j', async (tenant) => {
    await expect(way(tenant)).rejects.toThrow('holds half of a character')
  })
  it('is not longer than a job’s', async () => expect(way('x'.repeat(101))).rejects.toThrow('must be at most 100 characters long'))
  it('is not empty', async () => expect(way('')).rejects.toThrow('is empty'))
})

it('may hold all others: whoever is named by a job can be paused, limited and paid for', async () => {
  const redis = await startRedis()
  const real = new AgentQueue({ redis: { url: redis.url } })
  const client = createRedis({ url: redis.url }, 'commands')
  const ready = new ReadyJobs(client, new Keys())
  try {
    for (const tenant of ['a\nb', 'a\0', '\u0085', '\u2028', '\u001b[2J', '*x', '😀', 'acme/web', 'q"\\']) {
      const job = await real.enqueue({ repository: 'acme/web', steps: ['true'], tenant })
      await real.operations.pauseTenant(tenant, { by, reason: 'seen' })
      await real.operations.shareTenant(tenant, { weight: 2 }, { by })
      await real.budgets.setTenant(tenant, 5)
      expect((await real.list({ tenant })).map(({ jobId }) => jobId)).toEqual([job.jobId])
      expect((await job.status()).tenant).toBe(tenant)
      expect((await ready.tenant(tenant)).pause).toMatchObject({ reason: 'seen' })
    }
  } finally {
    client.disconnect()
    await real.close()
    await redis.close()
  }
})
