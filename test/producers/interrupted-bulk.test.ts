import { describe, expect, it } from 'vitest'
import { RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue, BulkInterruptedError } from '../../src/producers/index.js'
import { toMany } from '../../src/producers/job-bulk.js'
import type { JobPage } from '../../src/producers/job-pages.js'
import { createRedis } from '../../src/store/index.js'
import { startRedisProcess } from '../servers/redis-process.js'
import { after } from '../undo.js'

const by = { id: 'anna', name: 'Anna' }

/** 100 jobs on one page. */
const list = () => Promise.resolve(Object.assign(Array.from({ length: 100 }, (_, index) => ({ jobId: `job-${index}`, endedAtMs: null })), { cursor: null }) as unknown as JobPage)

describe('Redis goes away while something is done to many jobs', () => {
  it.each([1, 7, 40, 99])('after %i: the error says which were seen to, and nothing more is begun', async (most) => {
    const seen: string[] = []
    let begun = 0
    const work = async (jobId: string) => {
      begun += 1
      if (begun > most) throw new RedisUnavailableError('redis: it can’t be used; start it', undefined, 'start it')
      await Promise.resolve()
      seen.push(jobId)
      return true
    }
    const error = await toMany('drainQueue', list, {}, ['waiting'], {}, work).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(BulkInterruptedError)
    expect(error).toMatchObject({ code: 'SWY_REDIS_UNAVAILABLE', mend: 'start it', message: `drainQueue: ${most} of 100 jobs were seen to, and nothing more was begun: redis: it can’t be used; start it` })
    expect((error as BulkInterruptedError).result.jobIds).toEqual(seen)
    expect(begun).toBeLessThanOrEqual(most + 10)
  })

  it('before anything was done: it is the plain error', async () => {
    const away = new RedisUnavailableError('redis: it can’t be used; start it')
    await expect(toMany('drainQueue', list, {}, ['waiting'], {}, () => Promise.reject(away))).rejects.toBe(away)
  })

  it('a full Redis lets the jobs end and not the audit log grow: the error says both', async () => {
    const server = await startRedisProcess(() => [])
    after(() => server.close())
    const redis = { url: `redis://127.0.0.1:${server.port}` }
    const admin = createRedis(redis, 'commands')
    after(() => admin.disconnect())
    const queue = new AgentQueue({ redis })
    after(() => queue.close())
    const ids = (await queue.enqueueMany(Array.from({ length: 30 }, () => ({ repository: 'acme/web', steps: ['true'] })))).map(({ jobId }) => jobId)
    await admin.config('SET', 'maxmemory', '1')
    const error = await queue.operations.drainQueue({ by }).catch((thrown: unknown) => thrown)
    await admin.config('SET', 'maxmemory', '0')
    expect(error).toBeInstanceOf(BulkInterruptedError)
    expect((error as Error).message).toMatch(/^drainQueue: 30 of 30 jobs were seen to, and the audit log has no entry of it: redis: .*OOM/)
    expect([...(error as BulkInterruptedError).result.jobIds].sort()).toEqual([...ids].sort())
    for (const id of ids) expect((await queue.job(id).status()).state).toBe('cancelled')
    expect(await queue.operations.auditLog()).toEqual([])
  })
})
