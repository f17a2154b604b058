import { afterAll, describe, expect, it } from 'vitest'
import { configSchema } from '../../src/config/schema.js'
import { ApiKeys } from '../../src/http/api-keys.js'
import { AgentQueue } from '../../src/producers/index.js'

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
  it.each(['a\nb', 'a\0', '\u0085', '\u2028', '\u2029', '\ud800', 'b\udc00'])('holds no control character and no half of one: %j', async (tenant) => {
    await expect(way(tenant)).rejects.toThrow('must be one line without control characters')
  })
  it('is not longer than a job’s', async () => expect(way('x'.repeat(101))).rejects.toThrow('must be at most 100 characters long'))
  it('is not empty', async () => expect(way('')).rejects.toThrow('is empty'))
})
