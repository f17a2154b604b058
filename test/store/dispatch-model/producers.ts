import { expect } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../../src/job/spec.js'
import { cancelJob } from '../../../src/producers/job-cancel.js'
import { retryJob } from '../../../src/producers/job-retry.js'
import { branchMember } from '../../../src/store/index.js'
import type { Do } from './commands.js'
import { allows, keyLimits, queues, tenants, thens } from './deployment.js'
import { continuation, foundBy, type ModelJob, type State } from './model.js'
import type { World } from './world.js'

const repository = 'acme/web'

/** What producers do, and whoever uses BullMQ's own means. */
export class Producers {
  private lastAtMs = 0

  constructor(private readonly world: World) {}

  async enqueue(what: Do<'enqueue'>): Promise<void> {
    const added: ModelJob[] = []
    for (let n = 0; n < what.count; n++) added.push(await this.add(queues[what.queue]!, what))
    if (!what.around && !what.delayed) await this.list(added)
  }

  /** Another job under the id of one that is gone, which the index may still have where that one stood. */
  async addAgain({ id, queue, run }: ModelJob, what: Do<'add again'>): Promise<void> {
    const job = await this.add(queue, what, id)
    job.run = run
    job.again = run !== null
    if (!what.around && !what.delayed) await this.list([job])
  }

  private async add(queue: string, what: Omit<Do<'enqueue'>, 'do'>, id = `j${this.world.number()}`): Promise<ModelJob> {
    const { model } = this.world
    const [tenant, allow, cpu, key] = [tenants[what.tenant]!, allows[what.allow], what.cpu, Object.keys(keyLimits)[what.key]]
    const concurrency = key === undefined ? undefined : { key, limit: what.limit ?? keyLimits[key]!, then: thens[what.then]! }
    const input: JobSpecInput = { repository, steps: ['true'], tenant, priority: what.priority, ...(what.bounded ? { waitTimeout: '1h' } : {}), ...(cpu === 0 ? {} : { resources: { cpu } }), ...(allow === undefined ? {} : { providers: { allow: [...allow] } }), ...(concurrency === undefined ? {} : { concurrency }) }
    const job: ModelJob = { id, queue, tenant, cpu, allow, spec: parseJobSpec(input), key, limit: concurrency?.limit ?? Infinity, state: what.delayed ? 'delayed' : 'around', seen: false, overdue: false, run: null, again: false, wish: false }
    model.jobs.set(id, job)
    // By this two jobs of one id are told apart.
    this.lastAtMs = Math.max(this.lastAtMs + 1, Date.now())
    await this.world.side(queue).queue.add('job', { spec: job.spec, enqueuedAtMs: this.lastAtMs }, { jobId: id, priority: what.priority, timestamp: this.lastAtMs, ...(what.delayed ? { delay: 3_600_000 } : {}) })
    return job
  }

  private async list(added: readonly ModelJob[]): Promise<void> {
    if (added.length === 0) return
    const list = async () => {
      const expected = added.length === 1 ? await this.world.toSupersede(added[0]!) : undefined
      await this.world.side(added[0]!.queue).ready.add(added.map(({ id, spec }) => ({ jobId: id, spec })), { wake: added.length })
      for (const job of added) Object.assign(job, { state: 'waiting', seen: true })
      if (expected !== undefined) await this.world.judgeSuperseded(added[0]!, expected)
    }
    await this.world.observe(list, { comes: added })
  }

  async remove(job: ModelJob): Promise<void> {
    await this.world.side(job.queue).queue.remove(job.id)
    this.lose(job)
  }

  async drain(name: string): Promise<void> {
    const { model } = this.world
    // Those that are chosen stand in BullMQ's wait list, and go as well.
    const { queue } = this.world.side(name)
    await queue.drain()
    // A delayed one stays, also when it is due.
    for (const job of model.of(name, 'waiting', 'around', 'given', 'back')) if (job.state !== 'around' || (await queue.getJob(job.id)) === undefined) this.lose(job)
    for (const key of Object.keys(keyLimits)) model.unsure.add(`${name} ${key}`)
  }

  /** BullMQ holds it no more. */
  private lose(job: ModelJob): void {
    const { state, queue, key, superseded } = job
    this.world.model.unsure.add(`${queue} ${key ?? ''}`)
    const held = (state === 'given' || state === 'back') && superseded !== 'waiting' && job.ending !== 'waiting'
    job.state = held ? 'lost' : 'gone'
    job.overdue &&= held
    if (!held) Object.assign(job, { superseded: undefined, ending: undefined } satisfies Partial<ModelJob>)
  }

  async prioritise(job: ModelJob, { priority, lifo }: Do<'prioritise'>): Promise<void> {
    await (await this.world.side(job.queue).queue.getJob(job.id))!.changePriority({ priority, lifo })
    // BullMQ puts it there once it is due.
    if (job.state !== 'delayed') job.state = 'around'
  }

  async comeDue(job: ModelJob, how: Do<'come due'>['how']): Promise<void> {
    const { queue, keys } = this.world.side(job.queue)
    if (how === 'promoted') await (await queue.getJob(job.id))!.promote()
    else await this.world.client.zadd(keys.bullmq('delayed'), 'XX', 1, job.id)
    job.state = 'around'
  }

  /** As if all of its time to wait had passed, where the index counts it. */
  async waitTooLong(job: ModelJob): Promise<void> {
    const { client, keys } = this.world
    if ((await client.zadd(`${keys.ready()}:q:${job.queue}:${await this.world.epochOf(job.queue)}:deadline`, 'XX', 'CH', 1, job.id)) === 1) job.overdue = true
  }

  async cancel(job: ModelJob): Promise<void> {
    const { world } = this
    const found = foundBy(job)
    const before = job.state
    const outcome = await world.observe(async () => {
      const answer = await cancelJob(world.side(job.queue), job.id, 'because', undefined)
      if (found.kind === 'begins') this.endWaiting(job, found.generation)
      return answer
    })
    expect(outcome, `cancelling ${job.id}, which was ${before}`).toBe(found.kind === 'begins' ? 'cancelled' : found.kind === 'ended' ? 'ended' : 'requested')
    if (found.kind !== 'goes on') return
    job.run!.cancel = true
    // It waits for nothing any more.
    if (before !== 'parked' && before !== 'waiting') return
    if (before === 'waiting') world.model.unsure.add(`${job.queue} ${job.key ?? ''}`)
    Object.assign(job, { state: 'given', ending: 'waiting', overdue: false } satisfies Partial<ModelJob>)
  }

  private endWaiting(job: ModelJob, generation: number): void {
    // Its record says no more where it stood.
    if (job.state === 'waiting' || job.state === 'around') this.world.model.unsure.add(`${job.queue} ${job.key ?? ''}`)
    Object.assign(job, { state: 'ended', overdue: false, again: false, wish: false, superseded: undefined, run: { generation, end: 'cancelled', done: null, checkpoint: null, concludes: false, cancel: false } } satisfies Partial<ModelJob>)
  }

  async retry(job: ModelJob, { from, by }: Pick<Do<'retry'>, 'from' | 'by'>): Promise<void> {
    const { world } = this
    const side = world.side(job.queue)
    const found = foundBy(job)
    // Who asks waits for BullMQ to hear of the end.
    if (job.state !== 'ended' && found.kind === 'ended') return
    const run = job.run
    const rest = run === null ? 'nothing' : continuation(run, world.model.branches)
    if (by === 'bullmq' || by === 'bullmq anew') {
      if (job.state !== 'ended') return
      await (await side.queue.getJob(job.id))!.retry(run!.end === 'succeeded' ? 'completed' : 'failed', by === 'bullmq' ? {} : { resetAttemptsMade: true })
      this.runAgain(job, 'around')
      return
    }
    if (by === 'one that dies') {
      if (job.state !== 'ended' || from === 'start' || rest !== 'checkpoint') return
      expect(await side.store.requestContinuation(job.id, { generation: run!.generation, branch: { repository, name: run!.checkpoint!.branch }, kept: false }, 600_000)).toBe('requested')
      job.wish = true
      return
    }
    const others = world.model.all.filter((other) => other.key !== undefined && other.key === job.key && (other.state === 'waiting' || other.state === 'around'))
    const before = job.state
    const retry = async () => {
      const answer = await retryJob(side, side.keys, job.id, { from }).catch((error: unknown) => (error as Error).name)
      if (answer === 'retried' && before === 'ended') this.runAgain(job, 'waiting')
      return answer
    }
    const answer = await world.observe(retry, { comes: [job] })
    if (before !== 'ended') expect(answer).toBe('pending')
    else if (answer === 'KeyTakenError') world.judgeKept(job)
    else if (from === 'checkpoint' && rest === 'nothing') expect(answer, `retrying ${job.id} from ${JSON.stringify(run)}`).toBe(run!.end === 'succeeded' ? 'InvalidInputError' : 'CheckpointGoneError')
    else {
      expect(answer, `retrying ${job.id}`).toBe('retried')
      job.wish = from === 'checkpoint' && rest === 'checkpoint'
    }
    if (answer === 'retried') await this.learnCancelled([job, ...others])
  }

  private runAgain(job: ModelJob, state: State): void {
    job.again = true
    job.superseded = undefined
    job.overdue = false
    // It may have been cancelled before the index had seen it.
    if (state === 'waiting') job.seen = true
    job.state = state
  }

  /** Of those that wait, who was superseded by a job that was retried: whoever retried it has ended it. */
  private async learnCancelled(jobs: readonly ModelJob[]): Promise<void> {
    for (const job of jobs) {
      const { keys, store } = this.world.side(job.queue)
      if ((await this.world.client.hexists(keys.job(job.id), 'finishedOn')) === 0) continue
      const found = foundBy(job)
      expect(found.kind).toBe('begins')
      expect((await store.read(job.id))?.result?.error?.message).toMatch(/^superseded/)
      if (found.kind === 'begins') this.endWaiting(job, found.generation)
    }
    await this.world.learnSuperseded()
  }

  /** A checkpoint's branch is deleted, once its time has come. */
  async deleteBranch(which: number): Promise<void> {
    const { model, client, keys } = this.world
    const due = await client.zrange(keys.branches(), '0', '-1')
    const member = due[which % Math.max(1, due.length)]
    const branch = [...model.branches].find((name) => branchMember({ repository, name }) === member)
    if (member === undefined || branch === undefined) return
    await client.zrem(keys.branches(), member)
    model.branches.delete(branch)
  }
}
