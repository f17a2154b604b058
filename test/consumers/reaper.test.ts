import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { claimAndReap, reapRound, type ReapParts } from '../../src/consumers/reaping/reap-round.js'
import { Reaper, type ProviderListing } from '../../src/consumers/reaping/reaper.js'
import { FenceLostError, InfrastructureError } from '../../src/job/errors.js'
import type { RunRecord } from '../../src/job/run-record.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { sandboxTags, type Provider, type SandboxInfo } from '../../src/providers/provider.js'
import { Reaping, RunStore, SlotLedger, SlotOwners } from '../../src/store/index.js'
import { startDaytona, sandboxRequest } from '../providers/daytona-fixture.js'
import { startE2b } from '../providers/e2b-fixture.js'
import { startModal } from '../providers/modal-fixture.js'
import { altered } from '../providers/altered.js'
import { after, newId, record, result, until, useRedis } from '../store/fixture.js'

const redis = useRedis()
const call = { timeoutMs: 20_000 }
let folder: string
let local: LocalProvider

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-reaper-'))
  local = new LocalProvider({ name: 'local', stateDir: folder })
})
afterAll(async () => {
  for await (const { id } of local.list({}, call)) await local.kill(id, call)
  await local.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

function parts(fields: Partial<ReapParts> = {}): ReapParts {
  const connection = redis.connect()
  return {
    deployment: 'ours',
    store: new RunStore(connection, redis.keys),
    owners: new SlotOwners(connection, redis.keys),
    reaping: new Reaping(connection, redis.keys, newId()),
    callTimeoutMs: 20_000,
    graceMs: 0,
    branchRetentionMs: 3_600_000,
    log: pino({ level: 'silent' }),
    now: Date.now,
    signal: new AbortController().signal,
    ...fields,
  }
}

let names = 0
async function sandbox(provider: Provider, jobId: string, deployment = 'ours'): Promise<SandboxInfo> {
  const request = sandboxRequest({ name: `reap-${++names}`, tags: sandboxTags({ deployment, runId: jobId, attempt: 1 }) })
  const info = await provider.create(request, call)
  after(() => provider.kill(info.id, call))
  return info
}

async function run(store: RunStore, jobId: string, fields: Partial<RunRecord> = {}, ended = false): Promise<number> {
  const acquired = await store.acquire(jobId, { holder: 'c', fresh: record(jobId) })
  if (acquired.kind !== 'acquired') throw new Error('ended')
  await store.save(jobId, acquired.fence, record(jobId, fields))
  if (ended) await store.finish(jobId, acquired.fence, record(jobId, { ...fields, phase: 'ended' }), result(jobId), { id: `${jobId}.1` })
  return acquired.fence
}

const owning = (provider: string, id: string): Partial<RunRecord> => ({ phase: 'steps', sandbox: { provider, id, createdAtMs: 1, repositoryPath: null } })
const isThere = async (provider: Provider, { id }: SandboxInfo) => (await provider.get(id, call)) !== undefined
const verdicts = (round: { sandboxes: readonly { id: string; verdict: string }[] } | null) => Object.fromEntries((round?.sandboxes ?? []).map(({ id, verdict }) => [id, verdict]))

const broken = () => new InfrastructureError({ kind: 'transient', source: 'local', message: 'local: no answer' })

describe('a round', () => {
  it.each([
    ['local', async () => ({ provider: local, close: () => Promise.resolve() })],
    ['e2b', () => startE2b()],
    ['modal', () => startModal({ pageSize: 2 })],
    ['daytona', () => startDaytona()],
  ] as const)('at %s kills what no live run owns, and nothing else', async (_kind, start) => {
    const started = await start()
    after(() => started.close())
    const { provider } = started
    const own = parts()
    const [owned, ended, unknown, theirs] = [await sandbox(provider, 'live'), await sandbox(provider, 'ended'), await sandbox(provider, 'unknown'), await sandbox(provider, 'live', 'theirs')]
    await run(own.store, 'live', owning(provider.name, owned.id))
    await run(own.store, 'ended', owning(provider.name, ended.id), true)

    const looked = await reapRound(own, provider, { memory: await own.reaping.memory(provider.name), claim: null })
    expect(verdicts(looked.round)).toEqual({ [owned.id]: 'owned', [ended.id]: 'orphan', [unknown.id]: 'orphan', [theirs.id]: 'foreign' })
    expect(await isThere(provider, unknown)).toBe(true)

    const round = await claimAndReap(own, provider, 0)
    expect(round).toMatchObject({ foreign: 1, problem: null })
    expect(round?.sandboxes.filter(({ killed }) => killed).map(({ id }) => id).sort()).toEqual([ended.id, unknown.id].sort())
    expect(await Promise.all([owned, ended, unknown, theirs].map((each) => isThere(provider, each)))).toEqual([true, false, false, true])
  })

  it('leaves what is younger than the grace', async () => {
    const own = parts({ graceMs: 3_600_000 })
    const young = await sandbox(local, 'unknown')
    expect(verdicts(await claimAndReap(own, local, 0))).toEqual({ [young.id]: 'young' })
    expect(await isThere(local, young)).toBe(true)
  })

  it('kills nothing after a listing that broke off in the middle, whichever sandboxes it had shown', async () => {
    const orphan = await sandbox(local, 'unknown')
    const cut = altered(local, {
      async *list() {
        yield orphan
        await Promise.resolve()
        throw broken()
      },
    })
    const own = parts()
    expect(await claimAndReap(own, cut, 0)).toMatchObject({ sandboxes: [], problem: 'the sandboxes could not be listed, so none is killed: local: no answer' })
    expect(await isThere(local, orphan)).toBe(true)
  })

  it('kills nothing whose record can’t be read', async () => {
    const own = parts()
    const unclear = await sandbox(local, 'newer')
    await redis.connect().hset(redis.keys.run('newer'), { generation: 1, fence: 1, atMs: 1, record: '{"phase":"of a later version"}' })
    const ended = await sandbox(local, 'ended newer')
    await redis.connect().hset(redis.keys.run('ended newer'), { generation: 1, fence: 1, atMs: 1, result: '{"status":"of a later version"}' })
    const orphan = await sandbox(local, 'unknown')
    expect(verdicts(await claimAndReap(own, local, 0))).toEqual({ [unclear.id]: 'unclear', [ended.id]: 'unclear', [orphan.id]: 'orphan' })
    expect(await isThere(local, unclear)).toBe(true)
    expect(await isThere(local, orphan)).toBe(false)
  })

  it('spares the sandbox of a run that was taken while the listing was read', async () => {
    const own = parts()
    const fresh = await sandbox(local, 'fresh')
    const slow = altered(local, {
      async *list(tags, options) {
        for await (const info of local.list(tags, options)) yield info
        await run(own.store, 'fresh', owning('local', fresh.id)).catch(() => undefined)
      },
    })
    expect(verdicts(await claimAndReap(own, slow, 0))).toEqual({ [fresh.id]: 'owned' })
    expect(await isThere(local, fresh)).toBe(true)
  })

  it('tries a failed kill again at each round, shows it, and never calls it done', async () => {
    const own = parts()
    const orphan = await sandbox(local, 'unknown')
    const stubborn = altered(local, { kill: () => Promise.reject(broken()) })
    for (const failedKills of [1, 2]) {
      const round = await claimAndReap(own, stubborn, 0)
      expect(round?.sandboxes).toMatchObject([{ id: orphan.id, verdict: 'orphan', killed: false, failedKills, lastError: 'local: no answer' }])
    }
    // From another process, without a round of its own.
    const other = parts()
    const { round } = await reapRound(other, local, { memory: await other.reaping.memory('local'), claim: null })
    expect(round.sandboxes).toMatchObject([{ id: orphan.id, failedKills: 2, lastError: 'local: no answer' }])
    expect(await redis.connect().pttl(redis.keys.reaping('local'))).toBeGreaterThan(0)
    expect((await claimAndReap(own, local, 0))?.sandboxes).toMatchObject([{ killed: true }])
    expect(await other.reaping.memory('local')).toEqual({ sandboxes: {}, places: {} })
  })
})

describe('places', () => {
  const limits = [{ provider: 'local', sandboxes: 5 }]
  async function place(ledger: SlotLedger, jobId: string): Promise<string> {
    const leaseId = newId()
    // As BullMQ holds it.
    await redis.connect().hset(redis.keys.job(jobId), 'name', 'job')
    await ledger.reserve({ leaseId, holder: 'c', candidates: limits, demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 60_000 })
    expect(await ledger.bind(leaseId, jobId)).toBe(true)
    return leaseId
  }
  const used = async (ledger: SlotLedger) => (await ledger.loads([{ provider: 'local' }]))[0]?.used

  it('of ended and unknown runs are freed once nothing of them lives, those of live runs never', async () => {
    const connection = redis.connect()
    const ledger = new SlotLedger(connection, redis.keys)
    const own = parts()
    await run(own.store, 'live')
    await run(own.store, 'ended', {}, true)
    for (const jobId of ['live', 'ended', 'unknown']) await place(ledger, jobId)
    const left = await sandbox(local, 'ended')
    const stubborn = altered(local, { kill: () => Promise.reject(broken()) })
    expect(await claimAndReap(own, stubborn, 0)).toMatchObject({ freedPlaces: 1 })
    expect(await isThere(local, left)).toBe(true)
    expect(await ledger.leaseOf('ended')).not.toBeNull()
    expect(await claimAndReap(own, local, 0)).toMatchObject({ freedPlaces: 1 })
    expect(await ledger.leaseOf('ended')).toBeNull()
    expect(await ledger.leaseOf('live')).not.toBeNull()
    expect(await used(ledger)).toBe(1)
  })

  /** The ledger's clock goes on, at most a minute. */
  const passes = async (connection: ReturnType<typeof redis.connect>, ms: number) => {
    const key = `${redis.keys.ledger()}:clock`
    const [lookedAtMs, steadyMs] = ((await connection.get(key)) ?? '').split(' ')
    await connection.set(key, `${Number(lookedAtMs) - ms} ${steadyMs}`)
  }

  it('of a live run whose job BullMQ does not hold any more are freed when the run was ended', async () => {
    const connection = redis.connect()
    const ledger = new SlotLedger(connection, redis.keys)
    const own = parts({ graceMs: 60_000 })
    const left = await sandbox(local, 'removed')
    const fence = await run(own.store, 'removed', { sandbox: { provider: 'local', id: left.id, createdAtMs: Date.now(), repositoryPath: null } })
    await place(ledger, 'removed')
    await connection.del(redis.keys.job('removed'))
    await claimAndReap(own, local, 0)
    expect((await own.store.read('removed'))?.result).toBeNull()
    await passes(connection, 60_000)
    await claimAndReap(own, local, 0)
    expect(await own.store.read('removed')).toMatchObject({ result: { status: 'cancelled', metadata: {} }, record: { phase: 'ended', abandoned: [{ id: left.id }] } })
    await expect(own.store.save('removed', fence, (await own.store.read('removed'))!.record!)).rejects.toThrow(FenceLostError)
    expect(await ledger.leaseOfOwner(`:sandbox:${left.id}`)).not.toBeNull()
    expect(await claimAndReap(own, local, 0)).toMatchObject({ freedPlaces: 1 })
    expect(await isThere(local, left)).toBe(false)
    expect(await ledger.leaseOfOwner(`:sandbox:${left.id}`)).toBeNull()
  })

  it('of a run that goes on at the moment of freeing stay', async () => {
    const connection = redis.connect()
    const ledger = new SlotLedger(connection, redis.keys)
    const own = parts()
    const leaseId = await place(ledger, 'again')
    await run(own.store, 'again')
    expect(await own.owners.free({ leaseId, owner: { kind: 'job', runId: 'again' } })).toBe(false)
    expect(await ledger.leaseOf('again')).toMatchObject({ leaseId })
  })

  it('stay with a sandbox that was given up until it is known to be dead, while its job has another', async () => {
    const connection = redis.connect()
    const ledger = new SlotLedger(connection, redis.keys)
    const own = parts()
    const left = await sandbox(local, 'job')
    const fence = await run(own.store, 'job', { abandoned: [{ provider: 'local', id: left.id }] })
    await place(ledger, 'job')
    await expect(own.owners.entrust({ runId: 'job', fence: fence - 1 }, { kind: 'sandbox', sandboxId: left.id })).rejects.toThrow('supervised by another')
    await own.owners.entrust({ runId: 'job', fence }, { kind: 'sandbox', sandboxId: left.id })
    expect(await ledger.leaseOf('job')).toBeNull()
    await place(ledger, 'job')
    expect(await used(ledger)).toBe(2)
    await claimAndReap(own, altered(local, { kill: () => Promise.reject(broken()) }), 0)
    expect(await used(ledger)).toBe(2)
    expect(await claimAndReap(own, local, 0)).toMatchObject({ freedPlaces: 1 })
    expect(await used(ledger)).toBe(1)
  })

  it('stay with a create that was never answered until a later listing shows that nothing came of it', async () => {
    const connection = redis.connect()
    const ledger = new SlotLedger(connection, redis.keys)
    const own = parts()
    const fence = await run(own.store, 'job')
    await place(ledger, 'job')
    await own.owners.entrust({ runId: 'job', fence }, { kind: 'create', runId: 'job', attempt: 1, atMs: Date.now() })
    const late = await sandbox(local, 'job')
    await passes(connection, 8_000)
    expect(await claimAndReap(own, altered(local, { kill: () => Promise.reject(broken()) }), 0)).toMatchObject({ freedPlaces: 0 })
    expect(await claimAndReap(own, local, 0)).toMatchObject({ freedPlaces: 0 })
    expect(await isThere(local, late)).toBe(false)
    await passes(connection, 8_000)
    expect(await claimAndReap(own, local, 0)).toMatchObject({ freedPlaces: 1 })
    expect(await used(ledger)).toBe(0)
  })
})

describe('many consumers’ reapers', () => {
  it('list a provider once between them', async () => {
    let listings = 0
    const counting = altered(local, {
      list: (tags, options) => {
        if (Object.keys(tags).length === 0) listings += 1
        return local.list(tags, options)
      },
    })
    const rounds = await Promise.all(Array.from({ length: 20 }, () => claimAndReap(parts(), counting, 3_600_000)))
    expect(rounds.filter((round) => round !== null)).toHaveLength(1)
    expect(listings).toBe(1)
    // Whoever asks for one now waits for none.
    expect(await claimAndReap(parts(), counting, 0)).not.toBeNull()
  })

  it('take over from one that died in the middle of a round', async () => {
    const [dead, other] = [parts(), parts()]
    expect(await dead.reaping.claim('local', { gapMs: 0, ttlMs: 300 })).not.toBeNull()
    expect(await claimAndReap(other, local, 0)).toBeNull()
    await until(async () => (await claimAndReap(other, local, 0)) !== null, 'the claim has run out')
    // It comes back, and its round is nobody's concern any more.
    await other.reaping.claim('local', { gapMs: 0, ttlMs: 60_000 })
    await dead.reaping.finish('local', { sandboxes: { s: { firstSeenAtMs: 1, failedKills: 9, lastError: null } }, places: {} })
    expect(await other.reaping.memory('local')).toEqual({ sandboxes: {}, places: {} })
  })

  it('look at once where something was left behind', async () => {
    const orphan = await sandbox(local, 'unknown')
    await sandbox(local, 'x', 'theirs')
    const seen: ProviderListing[] = []
    const each = parts()
    const reaper = new Reaper({ ...each, providers: new Map([['local', { provider: local, limit: { sandboxes: 5 } }]]), intervalMs: 3_600_000, onListing: (listing) => Promise.resolve(void seen.push(listing)) })
    reaper.start()
    reaper.soon('local', 10)
    await until(async () => !(await isThere(local, orphan)), 'the orphan was killed')
    await until(() => seen.length > 0, 'the listing was told')
    expect(seen[0]).toEqual({ provider: 'local', own: 1, foreign: 1 })
    await reaper.stop()
  })
})
