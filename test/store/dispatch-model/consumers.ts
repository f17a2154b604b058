import { type Job, UnrecoverableError, type Worker } from 'bullmq'
import { expect } from 'vitest'
import { endForgottenRun } from '../../../src/consumers/ending/forgotten-run.js'
import { finishAndClose } from '../../../src/consumers/ending/finish-run.js'
import { newRunRecord, type RunRecord } from '../../../src/job/run-record.js'
import { type Dispatched, type KnownConstraints, SlotOwners } from '../../../src/store/index.js'
import type { Do } from './commands.js'
import { limits, type Member, viewOf } from './deployment.js'
import { foundBy, type ModelJob, type ModelRun, type State } from './model.js'
import type { World } from './world.js'

const repository = 'acme/web'

/** A job in a consumer's hands. */
interface Hand {
  readonly member: Member
  readonly job: Job
  readonly token: string
  readonly fence: number
  record: RunRecord
}

type GivenFor = Pick<Dispatched, 'jobId' | 'waited' | 'provider' | 'stand'>

/** What consumers do: as src/consumers/intake has it, by the same scripts. */
export class Consumers {
  readonly hands = new Map<string, Hand>()

  constructor(private readonly world: World) {}

  async look(member: Member, idleMs: number, dies: boolean): Promise<void> {
    const { world } = this
    const { model } = world
    const { ready, worker } = world.side(member.queue)
    const own = limits.filter(({ provider }) => (member.providers as readonly string[]).includes(provider))
    const means = { profileId: viewOf(member), viewId: viewOf(member), providers: member.providers, secrets: [], shares: true }
    let known: KnownConstraints[] = []
    for (let looks = 0; ; looks++) {
      expect(looks).toBeLessThan(100)
      const found = await world.observe(
        () => ready.dispatch({ holder: member.name, leaseId: `l${world.number()}`, limits: own, known, choice: 'most-free', means, graceMs: 600_000, idleMs, room: 2 }),
        { looks: member },
      )
      const { stand } = found
      if (stand.kind === 'overdue') expect(model.jobs.get(found.jobId!), `${found.jobId} is to be ended`).toMatchObject({ overdue: true })
      else if (found.jobId !== null || found.what === 'nothing') expect(model.paused.has(member.queue) || !model.of(member.queue, 'waiting').some(({ overdue }) => overdue), 'what is overdue comes first').toBe(true)
      if (found.what === 'take') {
        const token = `t${world.number()}`
        const job = (await worker.getNextJob(token, { block: false }))
        expect([found.jobId, found.waited]).toContain(job.id)
        await this.begin(member, job, token, found, dies)
      }
      // By these another may be superseded, which then stands before the one that was found: a consumer that is given that one ends it and looks again.
      await this.listIds(member.queue, found.unlisted)
      if (found.what === 'take') return
      known = found.unknown.map(({ id, number, json }) => {
        const { allow } = (JSON.parse(json) as { providers: { allow?: string[] } }).providers
        const can = member.providers.filter((name) => allow?.includes(name) ?? true)
        return { id, number, can: can.length === 0 ? 'none of its providers' : [[...can].sort()] }
      })
      if (found.what === 'nothing' && known.length === 0 && found.unlisted.length === 0) {
        if (!model.paused.has(member.queue)) expect(model.runnable(await world.load(), member.providers, (job) => job.queue === member.queue && job.state === 'waiting', await world.scores())).toEqual([])
        return
      }
    }
  }

  /** What BullMQ gave is acquired, or given back. */
  private async begin(member: Member, job: Job, token: string, found: GivenFor, dies: boolean): Promise<void> {
    const { world } = this
    const { ready, store } = world.side(member.queue)
    const known = world.model.jobs.get(job.id!)!
    const { id, spec } = known
    const ahead = foundBy(known)
    // One whose end BullMQ has not heard of stands there as it came.
    // So does another that has come under its id, while the run of the one before is still to be ended.
    const stands = known.state === 'around' && (ahead.kind === 'ended' || (known.again && known.run?.end === null))
    expect(known.state, `${id} is taken`).toBe(stands ? 'around' : 'given')
    const overdue = found.stand.kind === 'overdue'
    if (dies && !overdue) return this.lapse(known, known.state)
    known.state = 'taken'
    let placeAt = id === found.jobId ? found.provider : null
    if (id === found.waited) {
      const standing = await ready.standing(id, job.stalledCounter, spec)
      expect(standing.listed, `${id} is listed, though it was given`).toBe(false)
      if (known.superseded === 'waiting' && standing.begun) known.superseded = 'in hand'
      if (known.ending === 'waiting' && standing.begun) known.ending = 'in hand'
      placeAt = standing.begun ? null : standing.provider
    }
    const superseded = await ready.supersededBy(id)
    expect(superseded !== null, `${id} is superseded`).toBe(known.superseded !== undefined)
    const fresh = newRunRecord({ jobId: id, generation: job.attemptsMade + 1, repository, startedAtMs: 1, tenant: spec.tenant })
    const first = placeAt === null ? fresh : { ...fresh, creating: { provider: placeAt, name: 's', atMs: 1 } }
    const request = { holder: member.name, fresh: first, placeAt: first.creating?.provider, stalls: job.stalledCounter, bounded: spec.waitTimeoutMs !== undefined, token }
    let acquired = await store.acquire(id, request)
    if (acquired.kind === 'other') {
      expect(known.run!.end, `the run of ${id} before`).toBeNull()
      expect(await this.endForgotten(known)).toBe(true)
      acquired = await store.acquire(id, request)
    }
    if (acquired.kind === 'ended') {
      expect(ahead, `the run of ${id}`).toEqual({ kind: 'ended' })
      expect(acquired.result.status).toBe(known.run!.end)
      known.state = 'around'
      known.superseded = undefined
      known.overdue = false
      await world.observe(() => ready.close(id, undefined, { ended: true }))
      await this.tellBullmq(known, job, token, false)
      return
    }
    if (acquired.kind !== 'acquired') throw new Error(`${id}: ${acquired.kind}`)
    const { fence, record, created, cancel } = acquired
    expect({ kind: created ? 'begins' : 'goes on', generation: record.generation }, `the run of ${id}`).toMatchObject({ kind: ahead.kind, generation: ahead.kind === 'ended' ? 0 : ahead.generation })
    if (ahead.kind === 'begins') {
      known.run = { generation: ahead.generation, end: null, done: ahead.from?.steps ?? 0, checkpoint: ahead.from, concludes: false, cancel: false }
      known.again = false
      known.wish = false
      expect(record.continues?.generation ?? null).toBe(ahead.from === null ? null : ahead.generation - 1)
    }
    const run = known.run!
    expect({ done: record.stepIndex, steps: record.steps.length, branch: record.checkpoint?.branch ?? null }).toEqual({ done: run.done, steps: run.done, branch: run.checkpoint?.branch ?? null })
    if (run.cancel) expect(cancel, `${id} is to be cancelled`).not.toBeNull()
    this.hands.set(id, { member, job, token, fence, record })
    if (overdue) return this.end(known, { how: 'failed', takes: false, dies: false })
    if (spec.concurrency === undefined || cancel !== null || superseded !== null) return
    expect(await ready.enter(id, spec.concurrency), `${id} and its key`).toEqual({ kind: 'held' })
  }

  async end(known: ModelJob, { how, takes, dies }: Pick<Do<'end'>, 'how' | 'takes' | 'dies'>): Promise<void> {
    const { world } = this
    const { member, job, token, fence, record } = this.hands.get(known.id)!
    const { store, worker } = world.side(known.queue)
    const run = known.run!
    const status = run.cancel || known.superseded !== undefined ? 'cancelled' : how
    const outcome = { status, error: status === 'succeeded' ? null : { kind: 'step-failed' as const, message: 'exit 1', code: 'SWY_STEP_FAILED' } } satisfies RunRecord['outcome']
    known.state = 'around'
    known.superseded = undefined
    known.ending = undefined
    known.overdue = false
    run.end = status
    this.hands.delete(known.id)
    const ending = { store, deployment: 'test', branchRetentionMs: 600_000, now: Date.now }
    const { next } = await world.observe(
      async () => await finishAndClose(ending, { record: { ...record, outcome }, spec: { metadata: {}, push: {} }, fence, abandoned: [], checkpoints: record.checkpointBranches }, takes ? { holder: member.name, viewId: viewOf(member) } : null),
    )
    if (dies) return this.lapse(known, 'around')
    const given = await this.tellBullmq(known, job, token, next !== null)
    if (next === null) return
    const [data, jobId] = given as [Parameters<Worker['nextJobFromJobData']>[0], string]
    expect(jobId).toBe(next.jobId)
    const following = await worker['nextJobFromJobData'](data, jobId, token)
    await this.begin(member, following, token, { jobId: next.jobId, waited: null, provider: next.provider, stand: { kind: 'able' } }, false)
  }

  private async tellBullmq(known: ModelJob, job: Job, token: string, takeNext: boolean): Promise<unknown> {
    known.state = 'ended'
    known.superseded = undefined
    return known.run!.end === 'succeeded' ? await job.moveToCompleted({}, token, takeNext) : await job.moveToFailed(new UnrecoverableError(known.run!.end!), token, takeNext)
  }

  async getOn({ id, queue, run }: ModelJob, to: Do<'get on'>['to']): Promise<void> {
    const hand = this.hands.get(id)!
    if (run!.concludes) return
    const steps = run!.done! + (to === 'pushing' ? 0 : 1)
    const before = hand.record
    const base = { ref: null, sha: 'base' }
    const step = { name: `s${steps}`, exitCode: 0, durationMs: 1, stdoutTail: '', stderrTail: '' }
    hand.record = { ...before, base, phase: to === 'pushing' ? 'pushing' : 'steps', stepIndex: steps, steps: to === 'pushing' ? before.steps : [...before.steps, step] }
    if (to === 'a checkpoint') {
      const branch = `checkpoint/${id}-${run!.generation}.${this.world.number()}`
      hand.record.checkpoint = { sha: branch, stepIndex: steps, headSha: branch, commitsAhead: 1, branch, atMs: 1, withinStep: false, holdsPaths: false, repositoryPath: null }
      hand.record.checkpointBranches = [...before.checkpointBranches, branch]
      run!.checkpoint = { steps, branch }
      this.world.model.branches.add(branch)
    }
    run!.done = steps
    run!.concludes ||= to === 'pushing'
    await this.world.side(queue).store.save(id, hand.fence, hand.record)
  }

  /** Its consumer is gone: once its lock has lapsed BullMQ puts it back. */
  async lapse(known: ModelJob, state: State = 'given'): Promise<void> {
    const { keys, worker } = this.world.side(known.queue)
    await this.world.client.multi().del(`${keys.job(known.id)}:lock`, keys.bullmq('stalled-check')).sadd(worker.toKey('stalled'), known.id).exec()
    await worker['backend'].moveStalledJobsToWait()
    this.hands.delete(known.id)
    known.state = state
  }

  async putBack(known: ModelJob, says: boolean): Promise<void> {
    const { job, token } = this.hands.get(known.id)!
    this.hands.delete(known.id)
    await job.moveToWait(token)
    // One without a priority stands at once where BullMQ gives the next job from.
    known.state = (await job.getState()) === 'waiting' ? 'given' : 'back'
    if (says) await this.front(known)
  }

  /** Its budget has too little. */
  async park(known: ModelJob): Promise<void> {
    const { job, token } = this.hands.get(known.id)!
    const { ready } = this.world.side(known.queue)
    this.hands.delete(known.id)
    await this.world.observe(async () => {
      known.state = 'parked'
      await ready.close(known.id, undefined, { goesOn: true })
    })
    await job.moveToDelayed(Date.now() + 3_600_000, token)
  }

  private async front(known: ModelJob): Promise<void> {
    await this.world.side(known.queue).ready.front(known.id)
    known.state = 'given'
  }

  async reconcile(name: string): Promise<void> {
    const { world } = this
    const { model, client } = world
    const { ready, keys } = world.side(name)
    for (let more = true; more; ) {
      const found = await world.observe(() => ready.reconcile('m', 1))
      for (const jobId of found.gone) await this.endLost(model.jobs.get(jobId)!)
      for (const { jobId } of found.missing.filter(({ placed }) => placed)) {
        expect(model.jobs.get(jobId)!.state).toBe('back')
        await this.front(model.jobs.get(jobId)!)
      }
      await this.listIds(name, found.missing.flatMap(({ jobId, placed }) => (placed ? [] : [jobId])))
      await world.learnSuperseded()
      more = found.more
    }
    const [listed, waits] = await Promise.all([client.hget(`${world.keys.ready()}:listed`, name), client.zcard(keys.bullmq('prioritized'))])
    if (Number(listed ?? 0) === waits) for (const each of model.unsure) if (each.startsWith(`${name} `)) model.unsure.delete(each)
    // What stands in BullMQ's wait list, or is delayed and due, is found by a look.
    const waiting = new Set([...(await client.lrange(keys.bullmq('wait'), 0, -1)), ...(await client.zrange(keys.bullmq('delayed'), '0', '-1'))])
    for (const job of model.of(name, 'around')) if (!waiting.has(job.id)) job.state = 'waiting'
  }

  /** What may live of its run has its place until a reaper finds that nothing does: here at once. */
  private async endForgotten({ id, queue }: ModelJob): Promise<boolean> {
    const { client, keys } = this.world
    const owners = new SlotOwners(client, keys)
    const { store } = this.world.side(queue)
    const ended = await endForgottenRun({ store, owners, deployment: 'test', branchRetentionMs: 600_000, now: Date.now }, id)
    for (const { provider } of ended ? limits : []) {
      for (const slot of (await owners.bound(provider)).slots) if (slot.owner.kind !== 'job') await owners.free(slot)
    }
    return ended
  }

  private async endLost(known: ModelJob): Promise<void> {
    const { ready } = this.world.side(known.queue)
    const open = isOpen(known.run)
    // One that had been superseded while it waited has no account; but its run has begun, and is known where it was given back.
    expect(open ? ['lost', 'gone'] : ['lost'], `${known.id} is gone`).toContain(known.state)
    expect(await this.endForgotten(known)).toBe(open)
    if (open) known.run!.end = 'cancelled'
    known.state = 'gone'
    known.superseded = undefined
    known.ending = undefined
    await this.world.observe(() => ready.close(known.id))
  }

  private async listIds(name: string, ids: readonly string[]): Promise<void> {
    const { queue, ready } = this.world.side(name)
    for (const id of ids) {
      const job = await queue.getJob(id)
      if (job === undefined) continue
      const known = this.world.model.jobs.get(id)!
      const { stay } = await ready.add([{ jobId: id, spec: known.spec, begun: isOpen(known.run) }], { strays: true })
      known.seen = true
      known.overdue = false
      if (stay.length > 0) {
        // Dropped as it was to run again: its last run counts, of whose end BullMQ is to hear once more.
        this.world.judgeKept(known)
        Object.assign(known, { state: 'around', again: false } satisfies Partial<ModelJob>)
        continue
      }
      // One that was superseded is to be ended by whoever takes it next.
      known.state = known.superseded === undefined && known.ending === undefined ? 'waiting' : 'given'
      await this.world.learnSuperseded()
    }
  }
}

function isOpen(run: ModelRun | null): boolean {
  return run !== null && run.end === null
}
