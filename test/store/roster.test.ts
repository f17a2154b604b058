import { Queue } from 'bullmq'
import { beforeEach, describe, expect, it } from 'vitest'
import { constraintsOf } from '../../src/job/constraints.js'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { type Dispatched, Keys, type KnownConstraints, type Profile, ReadyJobs, Roster, RunStore, SlotLedger, type TenantShare } from '../../src/store/index.js'
import { after, passLedgerTime, record, until, useRedis } from './fixture.js'

const redis = useRedis()
let queue: Queue
let ready: ReadyJobs
let roster: Roster
beforeEach(async () => {
  const client = redis.connect()
  queue = new Queue(redis.keys.queueName, { connection: client, prefix: redis.keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  ready = new ReadyJobs(client, redis.keys)
  roster = new Roster(client, redis.keys)
})

const long = 600_000
interface Member {
  readonly name: string
  readonly providers: readonly string[]
  readonly secrets?: readonly string[]
  readonly queue?: string
  readonly ttlMs?: number
  readonly shares?: Readonly<Record<string, TenantShare>>
}
const announce = async ({ name, providers, secrets = [], queue: serves = redis.keys.queueName, ttlMs = long, shares }: Member) =>
  await roster.announce(
    {
      consumer: name,
      profileId: `profile-of-${name}`,
      profile: { queue: serves, release: '1.0.0', providers: [...providers], secrets: [...secrets] } satisfies Profile,
      troubles: [],
      startedAtMs: 1,
      shares: shares === undefined ? null : { shares, sinceMs: null },
    },
    ttlMs,
  )

/** What a member finds; of waiting jobs it takes those whose `providers.allow` it has. */
async function look({ name, providers, secrets = [] }: Member, graceMs = long, shares = false): Promise<Dispatched> {
  const limits = providers.map((provider) => ({ provider, sandboxes: 100 }))
  const means = { profileId: `profile-of-${name}`, viewId: `view-of-${name}`, providers, secrets, shares }
  let known: KnownConstraints[] = []
  for (;;) {
    const found = await ready.dispatch({ holder: name, leaseId: `${name}/${Math.random()}`, limits, known, choice: 'given', means, graceMs, idleMs: 0 })
    known = found.unknown.map(({ id, number, json }) => {
      const { providers: asked, secrets: needed = [] } = JSON.parse(json) as { providers: { allow?: string[] }; secrets?: string[] }
      const able = needed.every((secret) => secrets.includes(secret)) ? providers.filter((provider) => asked.allow?.includes(provider) ?? true) : []
      return { id, number, can: able.length === 0 ? `no ${asked.allow?.join() ?? ''} at ${name}` : [able] }
    })
    if (found.what === 'take' || (found.what === 'nothing' && found.unknown.length === 0)) return found
  }
}

const specOf = (more: Partial<JobSpecInput>) => parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
async function enqueue(jobId: string, more: Partial<JobSpecInput>): Promise<string> {
  const spec = specOf(more)
  await queue.add('job', { spec }, { jobId, priority: spec.priority })
  await ready.add([{ jobId, spec }])
  return constraintsOf(spec).id
}

/** A job that `by` took and began, and that is back in the wait list. */
async function handedOver(jobId: string, by: Member, more: Partial<JobSpecInput>): Promise<void> {
  await enqueue(jobId, more)
  expect(await look(by)).toMatchObject({ what: 'take', jobId })
  await new RunStore(redis.client, redis.keys).acquire(jobId, { holder: by.name, fresh: { ...record(jobId), sandbox: { provider: by.providers[0] ?? '', id: 's', createdAtMs: 1, repositoryPath: null }, phase: 'steps' } })
}
const wait = () => redis.client.lrange(redis.keys.bullmq('wait'), 0, -1)

const ab: Member = { name: 'ab', providers: ['b', 'a'], secrets: ['KEY'] }
const a: Member = { name: 'a', providers: ['a'] }

describe('the roster', () => {
  it('shows live consumers with what they have, and forgets those that say nothing more', async () => {
    await announce(ab)
    await announce(a)
    expect((await roster.live()).map(({ consumer }) => consumer).sort()).toEqual(['a', 'ab'])
    // Its time is over.
    await redis.client.zadd(redis.keys.consumers(), 1, 'a')
    await redis.client.zadd(`${redis.keys.consumers()}:live`, 1, 'profile-of-a')
    await until(async () => (await announce(ab), (await redis.client.zcard(redis.keys.consumers())) === 1), 'the other one to be forgotten')
    expect(await roster.live()).toMatchObject([{ consumer: 'ab', queue: 'agents', release: '1.0.0', providers: ['b', 'a'], secrets: ['KEY'], troubles: [] }])
    expect(await redis.client.hkeys(`${redis.keys.consumers()}:profile`)).toEqual(['profile-of-ab'])
  })

  it('tells each consumer what the others of its queue have', async () => {
    await announce(ab)
    await announce({ name: 'z', providers: ['z'], queue: 'other' })
    expect((await announce(a)).providers.sort()).toEqual(['a', 'b'])
  })

  it('does not believe anybody for longer after the clock was set back', async () => {
    await announce({ name: 'old', providers: ['old'], ttlMs: 100 })
    const ahead = Date.now() + 24 * 3_600_000
    await redis.client.zadd(redis.keys.consumers(), ahead, 'old')
    await redis.client.zadd(`${redis.keys.consumers()}:live`, ahead, 'profile-of-old')
    await announce({ ...ab, ttlMs: 100 })
    await until(async () => (await announce({ ...ab, ttlMs: 100 })).providers.every((provider) => provider !== 'old'), 'the one of the future to be forgotten')
  })

  it('believes who asked for far longer than another one does for as long, and takes no writes for lost', async () => {
    const [patient, quick] = [{ name: 'patient', providers: ['p'] }, { name: 'quick', providers: ['q'], ttlMs: 1_000 }]
    await announce(patient)
    expect(await announce(quick)).toMatchObject({ longestTtlMs: long })
    expect((await roster.live()).map(({ consumer }) => consumer).toSorted()).toEqual(['patient', 'quick'])
    expect(await redis.client.zscore(redis.keys.consumers(), 'patient').then(Number)).toBeGreaterThan(Date.now() + long - 60_000)
    expect(await redis.client.zscore(`${redis.keys.consumers()}:live`, 'profile-of-patient').then(Number)).toBeGreaterThan(Date.now() + long - 60_000)
    expect(await redis.client.pttl(redis.keys.consumers())).toBeGreaterThan(long)
    expect(await announce(patient)).toMatchObject({ lost: null, longestTtlMs: long })
  })

  it('expires as a whole when no consumer is left', async () => {
    await announce(ab)
    for (const key of ['', ':said', ':live', ':profile']) expect(await redis.client.pttl(redis.keys.consumers() + key)).toBeGreaterThan(0)
  })
})

describe('tenants’ shares', () => {
  const cap = (most: number) => ({ '*': { weight: 1, cap: most } })
  it('are those that were configured last; who has none takes none away', async () => {
    await announce({ ...ab, shares: cap(1) })
    expect((await announce(a)).shares).toMatchObject({ shares: cap(1) })
    await announce({ ...a, shares: cap(3) })
    expect((await announce(ab)).shares).toMatchObject({ shares: cap(3) })
    expect(await ready.tenant('t')).toEqual({ running: 0, cap: 3, pause: null })
  })

  it('come back from a consumer that had only learned of them, and until then nothing is given to it', async () => {
    await announce({ ...ab, shares: cap(1) })
    const learned = (await announce(a)).shares
    await redis.client.flushall()
    await enqueue('j', { tenant: 't' })
    expect(await look(a, long, true)).toMatchObject({ what: 'nothing', sharesLost: true })
    await roster.announce({ consumer: 'a', profileId: 'p', profile: { queue: 'agents', release: '1', providers: ['a'], secrets: [] }, troubles: [], startedAtMs: 1, shares: learned }, long)
    expect(await look(a, long, true)).toMatchObject({ what: 'take', jobId: 'j', sharesLost: false })
    expect(await ready.tenant('t')).toEqual({ running: 1, cap: 1, pause: null })
  })

  it('that an old consumer remembers don’t come before later ones', async () => {
    const { shares: old } = await announce({ ...ab, shares: cap(1) })
    await announce({ ...a, shares: cap(5) })
    await roster.announce({ consumer: 'ab', profileId: 'p', profile: { queue: 'agents', release: '1', providers: [], secrets: [] }, troubles: [], startedAtMs: 1, shares: old }, long)
    expect(await ready.tenant('t')).toMatchObject({ cap: 5 })
  })
})

describe('tenants that wait for their cap', () => {
  it.each([[40], [400]])('go on when it is raised, and nothing of them ends: %i of them', async (count) => {
    const shares = (most: number) => ({ '*': { weight: 1, cap: most } })
    const one = { name: 'a', providers: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] }
    await announce({ ...one, shares: shares(1) })
    const tenants = Array.from({ length: count }, (_, index) => `t${index}`)
    for (const tenant of tenants) for (const kind of ['held', 'waits']) await enqueue(`${kind} ${tenant}`, { tenant })
    const take = async () => {
      const taken: string[] = []
      for (let looks = 0; looks < 3; ) {
        const { jobId } = await look(one, long, true)
        if (jobId === null) looks++
        else taken.push(jobId)
        await redis.client.del(redis.keys.bullmq('wait'))
      }
      return taken
    }
    expect((await take()).length).toBe(count)
    await announce({ ...one, shares: shares(2) })
    for (let calls = 0; (await ready.reconcile('r', 1)).more; calls++) expect(calls).toBeLessThan(count)
    expect((await take()).sort()).toEqual(tenants.map((tenant) => `waits ${tenant}`).sort())
  })
})

describe('a waiting job that a consumer can’t run', () => {
  it('waits as long as one is live that has not refused it, and is given up after the grace when none is', async () => {
    await announce(ab)
    await announce(a)
    const id = await enqueue('j', { providers: { allow: ['c'] } })
    expect(await look(a)).toMatchObject({ what: 'nothing' })
    expect(await ready.refuse('profile-of-a', 'constraints', [{ id, why: 'no c at a' }], 1)).toEqual(new Map())
    // Believed by one consumer, it is still not given.
    expect(await look(a, 1)).toMatchObject({ what: 'nothing' })
    const refuse = (graceMs: number) => ready.refuse('profile-of-ab', 'constraints', [{ id, why: 'no c at ab' }], graceMs)
    expect(await refuse(long)).toEqual(new Map())
    expect(await ready.refusals(id)).toMatchObject({ sinceMs: expect.any(Number) as number })
    await until(async () => (await refuse(1)).size > 0, 'the grace to pass')
    expect(await look(a, long)).toMatchObject({ what: 'nothing' })
    const found = await look(a, 1)
    expect(found).toMatchObject({ what: 'take', jobId: 'j', provider: null, stand: { kind: 'nobody' } })
    expect(found.stand.kind === 'nobody' && [...found.stand.reasons].sort()).toEqual(['no c at a', 'no c at ab'])
    expect(await ready.refusals(id)).toBeNull()
  })

  it('is not given up once somebody comes who may run it', async () => {
    await announce(a)
    const id = await enqueue('j', { providers: { allow: ['b'] } })
    await ready.refuse('profile-of-a', 'constraints', [{ id, why: 'no b' }], 1)
    await until(async () => (await ready.refuse('profile-of-a', 'constraints', [{ id, why: 'no b' }], 1)).size > 0, 'the grace to pass')
    await announce(ab)
    expect(await look(a, 1)).toMatchObject({ what: 'nothing' })
    expect(await look(ab)).toMatchObject({ what: 'take', jobId: 'j', provider: 'b', stand: { kind: 'able' } })
  })

  it('is not given up for a clock that was set back, after which the deployment’s own is ahead of it', async () => {
    await announce(ab)
    await announce(a)
    const id = await enqueue('j', { providers: { allow: ['b'] } })
    expect(await look(a)).toMatchObject({ what: 'nothing' })
    await passLedgerTime(redis.client, redis.keys, 3 * 3_600_000)
    await announce(ab)
    expect(await ready.refuse('profile-of-a', 'constraints', [{ id, why: 'no b' }], 0)).toEqual(new Map())
    expect(await look(a, 0)).toMatchObject({ what: 'nothing' })
    expect(await look(ab)).toMatchObject({ what: 'take', jobId: 'j', provider: 'b' })
  })

  it('is nobody’s business in another queue', async () => {
    await announce({ ...ab, queue: 'other' })
    await announce(a)
    const id = await enqueue('j', { providers: { allow: ['b'] } })
    await until(async () => (await ready.refuse('profile-of-a', 'constraints', [{ id, why: 'no b' }], 1)).size > 0, 'the grace to pass')
  })

  it('is not remembered once it is gone', async () => {
    expect(await ready.refuse('profile-of-a', 'constraints', [{ id: 'gone', why: 'no' }], 1)).toEqual(new Map())
    expect(await redis.client.exists(redis.keys.refusals())).toBe(0)
  })
})

describe('a job that was in somebody’s hands', () => {
  it('is given only to a consumer that has its provider and its secrets', async () => {
    for (const member of [ab, a]) await announce(member)
    await announce({ name: 'b', providers: ['b'] })
    await handedOver('j', ab, { secrets: ['KEY'], providers: { allow: ['b'] } })
    expect(await look(a)).toMatchObject({ what: 'nothing' })
    expect(await look({ name: 'b', providers: ['b'] })).toMatchObject({ what: 'nothing' })
    expect(await look(ab)).toMatchObject({ what: 'take', jobId: null, waited: 'j', stand: { kind: 'able' } })
  })

  it('does not stand in the way of others, however many there are', async () => {
    await announce(ab)
    await announce(a)
    const client = redis.connect()
    const far = Array.from({ length: 40 }, (_, index) => `far-${index}`)
    for (const jobId of far) {
      await handedOver(jobId, { ...ab, providers: ['b'] }, { providers: { allow: ['b'] } })
      await client.lrem(redis.keys.bullmq('wait'), 1, jobId)
    }
    await handedOver('near', a, { providers: { allow: ['a'] } })
    await client.lrem(redis.keys.bullmq('wait'), 1, 'near')
    await client.rpush(redis.keys.bullmq('wait'), 'near', ...far)
    const seen: (string | null)[] = []
    for (let looks = 0; looks < 3 && !seen.includes('near'); looks++) seen.push((await look(a)).waited)
    expect(seen).toContain('near')
    // It stands where BullMQ takes the next one from.
    expect((await wait()).at(-1)).toBe('near')
    await enqueue('mine', { providers: { allow: ['a'] } })
    await redis.client.lrem(redis.keys.bullmq('wait'), 0, 'near')
    expect(await look(a)).toMatchObject({ what: 'take', jobId: 'mine' })
    expect((await wait()).at(-1)).toBe('mine')
  })

  it('is stranded when no live consumer has its provider for longer than the grace, and given up when all refuse it', async () => {
    await announce(a)
    await handedOver('j', { ...ab, providers: ['b'] }, { providers: { allow: ['b'] } })
    expect(await look(a)).toMatchObject({ what: 'nothing' })
    let found = await look(a, 1)
    await until(async () => (found = await look(a, 1)).what === 'take', 'the grace to pass')
    expect(found).toMatchObject({ waited: 'j', stand: { kind: 'stranded' } })
    await ready.refuse('profile-of-a', 'job', [{ id: 'j', why: 'a can’t' }], long)
    // Somebody else may try first.
    await announce({ name: 'c', providers: ['c'] })
    expect(await look(a, 1)).toMatchObject({ what: 'nothing' })
    expect(await look({ name: 'c', providers: ['c'] }, 1)).toMatchObject({ waited: 'j', stand: { kind: 'stranded' } })
    await ready.refuse('profile-of-c', 'job', [{ id: 'j', why: 'c can’t' }], long)
    found = await look(a, 1)
    expect(found).toMatchObject({ waited: 'j', stand: { kind: 'nobody' } })
    expect(found.stand.kind === 'nobody' && [...found.stand.reasons].sort()).toEqual(['a can’t', 'c can’t'])
    await ready.close('j')
    expect(await ready.refusals('j')).toBeNull()
  })

  it('is ended by a consumer that reaches its sandbox, when only a secret is missing', async () => {
    await announce(a)
    const b = { name: 'b', providers: ['b'] }
    await announce(b)
    await handedOver('j', { ...ab, providers: ['b'] }, { secrets: ['KEY'], providers: { allow: ['b'] } })
    for (const { name } of [a, b]) await ready.refuse(`profile-of-${name}`, 'job', [{ id: 'j', why: 'no KEY' }], long)
    let found = await look(b, 1)
    await until(async () => (found = await look(b, 1)).what === 'take', 'the grace to pass')
    expect(found).toMatchObject({ stand: { kind: 'nobody', reasons: ['no KEY'] } })
    expect(await look(a, 1)).toMatchObject({ what: 'nothing' })
  })

  it('is taken at once to be cancelled, when nobody can go on with it', async () => {
    await announce(a)
    await handedOver('j', { ...ab, providers: ['b'] }, { providers: { allow: ['b'] } })
    await new RunStore(redis.client, redis.keys).cancel('j', 'enough', null)
    expect(await look(a)).toMatchObject({ waited: 'j', stand: { kind: 'stranded' } })
  })

  it('is told by its record where its place was lost', async () => {
    await announce(a)
    await announce(ab)
    await handedOver('j', { ...ab, providers: ['b'] }, { providers: { allow: ['b'] } })
    await redis.client.hdel(`${redis.keys.ledger()}:jobs`, 'j')
    expect(await new SlotLedger(redis.client, redis.keys).leaseOf('j')).toBeNull()
    expect(await look(a)).toMatchObject({ what: 'nothing' })
    expect(await look(ab)).toMatchObject({ waited: 'j' })
  })

  it('that a profile has refused for a while is taken by it again after that', async () => {
    await announce(ab)
    await handedOver('j', ab, {})
    await ready.refuse('profile-of-ab', 'job', [{ id: 'j', why: 'a newer release', forMs: 60_000 }], long)
    expect(await look(ab)).toMatchObject({ what: 'nothing' })
    await passLedgerTime(redis.connect(), redis.keys, 60_000)
    expect(await look(ab)).toMatchObject({ waited: 'j' })
  })
})

it('is not given up for what is refused for a while only, however long that goes on', async () => {
  await announce(ab)
  await handedOver('j', ab, {})
  const refuse = () => ready.refuse('profile-of-ab', 'job', [{ id: 'j', why: 'a key is refused', forMs: long }], 1)
  await refuse()
  for (let looks = 0; looks < 5; looks++) {
    expect(await refuse()).toEqual(new Map())
    expect(await look(ab, 1)).toMatchObject({ what: 'nothing' })
  }
  expect(await ready.refusals('j')).toMatchObject({ sinceMs: null })
})

it('needs the queue’s own name to be the key’s', () => {
  expect(new Keys('{x}', 'my.queue').refusals()).toBe('{x}:ready:q:my.queue:unfit')
})

describe('a Redis that went back', () => {
  it('is known by what it no longer knows of a consumer, and what ran out while Redis was away is none', async () => {
    const client = redis.connect()
    const said = `${redis.keys.consumers()}:said`
    const member = { name: 'a', providers: ['p'] }
    expect((await announce(member)).lost).toBeNull()
    const { atMs } = JSON.parse((await client.hget(said, 'a')) ?? '{}') as { atMs: number }
    const older = await client.dumpBuffer(said)
    expect((await announce(member)).lost).toBeNull()
    await client.restore(said, 0, older, 'REPLACE')
    expect((await announce(member)).lost).toEqual({ sinceMs: atMs })
    expect((await announce(member)).lost).toBeNull()
    await client.del(said)
    expect((await announce(member)).lost).toEqual({ sinceMs: null })

    await announce({ ...member, ttlMs: 1 })
    await until(async () => (await client.exists(said)) === 0, 'it is over')
    expect((await announce({ ...member, ttlMs: 1 })).lost).toBeNull()
  })
})
