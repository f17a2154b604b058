import { setImmediate as nextTurn } from 'node:timers/promises'
import { Job, type Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { EventGroups } from '../events/index.js'
import { constraintsOf } from '../job/constraints.js'
import { IdempotencyConflictError, InvalidInputError, SwitchyardError, UnknownJobError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import type { LogLine } from '../job/log.js'
import type { JobResult } from '../job/result.js'
import { defaultMaxSpecBytes, type JobSpec, type JobSpecInput, parseJobSpec } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import { createRedis, defaultQueueName, Keys, type LiveConsumer, type ProviderLoad, type QueuedJob, queueWake, readLog, type ReadLogOptions, type RedisConfig, Signals } from '../store/index.js'
import { type Claim, claimKeys, newJobId, specDigest } from './idempotency.js'
import type { JobHandle } from './job-handle.js'
import { type JobPage, listJobs, type ListOptions } from './job-pages.js'
import { type RetryOptions, retryJob } from './job-retry.js'
import { mergeStatus } from './job-status.js'
import { ProducerConnection, type Connected } from './producer-connection.js'
import { cancelledWhileWaiting, isRetried, viewOf } from './queue-view.js'
import type { Around } from './waiting-reason.js'
import { ResultWaiter } from './result-waiter.js'

export interface AgentQueueOptions {
  readonly redis: RedisConfig
  /** The queue's name. Default `agents`. */
  readonly name?: string | undefined
  /** The deployment's prefix, with one hash tag; the consumers' must be the same. Default `{switchyard}`. */
  readonly prefix?: string | undefined
  /** How large a spec may be as JSON, in bytes. Default 1 MiB. */
  readonly maxSpecBytes?: number | undefined
  /** Fields that every spec of this queue has unless it gives them itself. */
  readonly defaults?: Partial<JobSpecInput> | undefined
  /** How long an ended job is known, in milliseconds. Default 7 days. */
  readonly retentionMs?: number | undefined
  /** What the events of jobs cancelled here name as their source. Default `/switchyard`. */
  readonly eventSource?: string | undefined
}

export interface EnqueueOptions {
  /**
   * What becomes of a job that has the same `idempotencyKey` and has failed: `keep` (the default) gives it as it is, `rerun` runs it again from
   * the start. The spec must be the same.
   */
  readonly onFailed?: 'keep' | 'rerun' | undefined
}

const enqueueOptions = z.strictObject({ onFailed: z.enum(['keep', 'rerun'], { error: 'must be "keep" or "rerun"' }).optional() })

const jobsPerRoundTrip = 1_000
/** How many specs are checked before the event loop has its turn. */
const specsPerTurn = 500
/** After how many problems of many specs the rest is not looked at. */
const mostProblems = 1_000
const defaultRetentionMs = 7 * 24 * 60 * 60 * 1000
/** How many ended jobs BullMQ keeps for the board; results and logs are kept by the store, by age. */
const keptEndedJobs = 10_000
/** Lines of BullMQ's own log of a job, for the board. */
const keptLogLines = 1_000
/** How long a key of a job that never ends is remembered, in milliseconds; the end replaces it by the retention. */
const claimTtlMs = 30 * 24 * 60 * 60 * 1000

interface NewJob {
  readonly jobId: string
  readonly spec: JobSpec
}

/**
 * The producers' side of a queue: enqueue jobs, wait for them, read their output, cancel them. Needs Redis and nothing
 * else; connections are opened at the first use. Every call fails with RedisUnavailableError within a second while
 * Redis is away; only waits that are under way go on.
 */
export class AgentQueue {
  readonly name: string
  /** The groups that read the deployment's completion events, and what they have given up. */
  readonly events: EventGroups
  readonly #config: RedisConfig
  readonly #options: AgentQueueOptions
  readonly #keys: Keys
  readonly #retentionMs: number
  readonly #maxSpecBytes: number
  readonly #connection: ProducerConnection
  readonly #waiter: ResultWaiter
  #signals: Signals | undefined

  /** @throws InvalidInputError when the URL, the name or the prefix is wrong. */
  constructor(options: AgentQueueOptions) {
    this.name = options.name ?? defaultQueueName
    if (this.name === '' || this.name.includes(':')) throw new InvalidInputError(`name: "${this.name}" must not be empty or hold ":"`)
    this.#options = options
    this.#config = options.redis
    this.#keys = new Keys(options.prefix, this.name)
    this.#retentionMs = options.retentionMs ?? defaultRetentionMs
    this.#maxSpecBytes = options.maxSpecBytes ?? defaultMaxSpecBytes
    this.#connection = new ProducerConnection(this.#config, this.#keys, this.#retentionMs)
    this.events = new EventGroups(this.#keys, (work) => this.#connection.use(({ redis }) => work(redis)))
    this.#waiter = new ResultWaiter(
      () => this.#listen(),
      (jobIds) => this.#lookUp(jobIds),
    )
  }

  /**
   * Validates a job and adds it.
   * @returns its handle; with an `idempotencyKey` that is known, the handle of the job that has it: the one that is there, unless `onFailed` says otherwise.
   * @throws InvalidInputError, IdempotencyConflictError, RedisUnavailableError.
   */
  async enqueue(spec: JobSpecInput, options: EnqueueOptions = {}): Promise<JobHandle> {
    const job = this.#newJob(spec, 'job spec')
    await this.#add([job], options)
    return this.job(job.jobId)
  }

  /**
   * Validates all jobs, then adds them, 1,000 in a round trip; one round trip more for each 10,000 idempotency keys.
   * Nothing is added when one spec is wrong or one key conflicts. When Redis goes away in the middle, some may have
   * been added: give keys to what may be repeated.
   * @returns the handles, in the specs' order.
   * @throws as `enqueue`; problems name the position, from 0.
   */
  async enqueueMany(specs: readonly JobSpecInput[], options: EnqueueOptions = {}): Promise<JobHandle[]> {
    const problems: string[] = []
    const jobs: NewJob[] = []
    for (const [index, spec] of specs.entries()) {
      // Checking a hundred thousand takes seconds: whatever else the process does goes on.
      if (index % specsPerTurn === specsPerTurn - 1) await nextTurn()
      try {
        jobs.push(this.#newJob(spec, 'job spec'))
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error
        if (problems.length >= mostProblems) break
        for (const problem of error.problems) problems.push(`jobs[${index}]: ${problem}`)
      }
    }
    if (problems.length > 0) throw new InvalidInputError(problems[0] ?? '', problems)
    await this.#add(jobs, options)
    return jobs.map(({ jobId }) => this.job(jobId))
  }

  /** A handle for a job by its id; whether it exists shows at the first call. */
  job(jobId: string): JobHandle {
    return {
      jobId,
      result: (options) => this.#waiter.wait(jobId, options),
      logs: (options) => this.#logs(jobId, options),
      cancel: (reason) => this.#cancel(jobId, reason),
      status: () => this.#status(jobId),
    }
  }

  /**
   * Jobs that BullMQ still knows, the newest first, a page at a time. Waiting jobs that were cancelled are not among them.
   * @throws InvalidInputError, RedisUnavailableError.
   */
  async list(options: ListOptions = {}): Promise<JobPage> {
    return await this.#connection.use((connected) => listJobs({ ...connected, keys: this.#keys }, options, (jobIds) => this.#statuses(connected, jobIds)))
  }

  /**
   * Where jobs stand, and what each waits for; as many round trips for many as for one.
   * @returns in the order of the ids, null for a job that nobody knows.
   */
  async statuses(jobIds: readonly string[]): Promise<(JobStatus | null)[]> {
    return await this.#connection.use((connected) => this.#statuses(connected, jobIds))
  }

  /**
   * Runs a job again that has ended, as a run of its own: `result()`, `logs()` and `status()` are the new one's from then on.
   * @returns `retried`; `pending` when it waits or runs already, and nothing was done.
   * @throws InvalidInputError (also when the queue does not hold the job any more), UnknownJobError, RedisUnavailableError.
   */
  async retry(jobId: string, options: RetryOptions = {}): Promise<'retried' | 'pending'> {
    return await this.#connection.use((connected) => retryJob(connected, this.#keys, jobId, options))
  }

  /**
   * Runs all ended jobs again that a filter finds, as `retry` does, one after the other.
   * @param filter as for `list`; without a `state` the failed ones.
   * @returns the ids of those that were.
   * @throws as `list` and `retry`; what was run again by then stays so.
   */
  async retryMany(filter: Pick<ListOptions, 'tenant' | 'repository' | 'since'> & { readonly state?: 'succeeded' | 'failed' | 'cancelled' | undefined } = {}): Promise<string[]> {
    const ids: string[] = []
    const options: ListOptions = { ...filter, state: filter.state ?? 'failed', limit: 1_000 }
    // All are found first: what is run again leaves the list.
    let page = await this.list(options)
    for (;;) {
      ids.push(...page.map(({ jobId }) => jobId))
      if (page.cursor === null) break
      page = await this.list({ ...options, cursor: page.cursor })
    }
    const again: string[] = []
    for (const jobId of ids) if ((await this.retry(jobId)) === 'retried') again.push(jobId)
    return again
  }

  /** What each provider that consumers have asked for a place holds, and why it may take no more; by name. */
  async providers(): Promise<ProviderLoad[]> {
    return await this.#connection.use(({ ledger }) => ledger.loads())
  }

  /** The live consumers of all queues of the deployment: what each has, and which of its keys are refused. */
  async consumers(): Promise<LiveConsumer[]> {
    return await this.#connection.use(({ roster }) => roster.live())
  }

  /** Closes the connections; waits under way fail. Jobs go on. */
  async close(): Promise<void> {
    this.#waiter.close(new SwitchyardError('the queue was closed while waiting for a result'))
    this.#signals?.close()
    await this.#connection.close()
  }

  #newJob(input: unknown, what: string): NewJob {
    const merged: unknown =
      this.#options.defaults !== undefined && typeof input === 'object' && input !== null ? { ...this.#options.defaults, ...input } : input
    const spec = parseJobSpec(merged, this.#maxSpecBytes)
    const bytes = Buffer.byteLength(JSON.stringify(spec))
    if (bytes > this.#sizeLimit()) {
      throw new InvalidInputError(`${what}: is ${bytes} bytes as the queue holds it, over the limit of ${this.#sizeLimit()}; give fewer, longer steps`)
    }
    return { jobId: newJobId(this.name, spec.idempotencyKey), spec }
  }

  /** A validated spec has its defaults filled in, so it may be larger than what was given. */
  #sizeLimit(): number {
    return this.#maxSpecBytes * 2
  }

  async #add(jobs: readonly NewJob[], options: EnqueueOptions): Promise<void> {
    const { onFailed } = parseInput(enqueueOptions, options, 'enqueue')
    const unique = new Map<string, NewJob>()
    const claims = new Map<string, Claim>()
    for (const [index, job] of jobs.entries()) {
      if (index % specsPerTurn === specsPerTurn - 1) await nextTurn()
      unique.set(job.jobId, job)
      const key = job.spec.idempotencyKey
      if (key === undefined) continue
      const digest = specDigest(job.spec)
      const before = claims.get(job.jobId)
      if (before !== undefined && before.digest !== digest) throw new IdempotencyConflictError(key, job.jobId)
      claims.set(job.jobId, { jobId: job.jobId, key, digest })
    }
    await this.#connection.use(async (connected) => {
      const { queue, redis, ready, waits } = connected
      await claimKeys(redis, this.#keys, [...claims.values()], Math.max(claimTtlMs, this.#retentionMs))
      const list = [...unique.values()]
      for (let start = 0; start < list.length; start += jobsPerRoundTrip) {
        await this.#addBatch(queue, { redis, ready, waits }, list.slice(start, start + jobsPerRoundTrip))
      }
      if (onFailed === 'rerun') await this.#rerunFailed(connected, [...claims.keys()])
    })
  }

  /** Of jobs that were there before, those that have failed. */
  async #rerunFailed(connected: Connected, jobIds: readonly string[]): Promise<void> {
    for (let start = 0; start < jobIds.length; start += jobsPerRoundTrip) {
      const part = jobIds.slice(start, start + jobsPerRoundTrip)
      const standings = await connected.store.standings(part)
      for (const [index, jobId] of part.entries()) if (standings[index]?.result?.status === 'failed') await retryJob(connected, this.#keys, jobId, {})
    }
  }

  /** BullMQ's own scripts for the jobs, one that lists them and one that wakes idle consumers, in one pipeline. */
  async #addBatch(queue: Queue<QueuedJob>, { redis, ready, waits }: Pick<Connected, 'redis' | 'ready' | 'waits'>, batch: readonly NewJob[]): Promise<void> {
    const pipeline = (await queue.backend.client).pipeline()
    const enqueuedAtMs = Date.now()
    // Whoever finds that a delayed job is due goes by Redis' clock.
    const nowMs = batch.some(({ spec }) => isDelayed(spec)) ? await timeOf(redis) : enqueuedAtMs
    const jobs = batch.map((job) => ({ ...job, delayMs: delayOf(job.spec, nowMs) }))
    for (const { jobId, spec, delayMs } of jobs) {
      const options = { ...this.#jobOptions(jobId, spec, delayMs === 0 ? enqueuedAtMs : nowMs), ...(delayMs === 0 ? {} : { delay: delayMs }) }
      const job = new Job<QueuedJob>(queue, spec.repository, { spec, enqueuedAtMs }, options, jobId)
      // Only queues the command; its answer, or its error, comes with the pipeline's.
      void job.addJob(pipeline)
    }
    const due = jobs.filter(({ delayMs }) => delayMs === 0)
    if (due.length > 0) ready.queueAdd(pipeline, due)
    waits.queueAdd(pipeline, jobs)
    queueWake(pipeline, this.#keys, batch.length)
    const answers = await pipeline.exec()
    for (const [error] of answers ?? []) if (error !== null) throw error
  }

  #jobOptions(jobId: string, spec: JobSpec, timestamp: number) {
    const kept = { age: Math.ceil(this.#retentionMs / 1000), count: keptEndedJobs }
    return {
      jobId,
      timestamp,
      // BullMQ runs priority 0 before all others, so there must be one.
      priority: spec.priority,
      // Failover and retries are the consumers' own; BullMQ runs each job once.
      attempts: 1,
      removeOnComplete: kept,
      removeOnFail: kept,
      keepLogs: keptLogLines,
      sizeLimit: this.#sizeLimit() + 1024,
    }
  }

  /** The results of jobs, for those who wait: one round trip. Of a job that was retried, that of the run that is next. */
  async #lookUp(jobIds: readonly string[]): Promise<(JobResult | 'running' | 'unknown')[]> {
    return await this.#connection.use(async ({ store }) => (await store.standings(jobIds)).map(({ known, result }) => result ?? (known ? 'running' : 'unknown')))
  }

  #listen(): Signals {
    return (this.#signals ??= new Signals(createRedis(this.#config, 'subscriber'), this.#keys))
  }

  async *#logs(jobId: string, options: ReadLogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    const [standing] = await this.#connection.use(({ store }) => store.standings([jobId]))
    if (standing?.known !== true) throw new UnknownJobError(jobId)
    const source = await this.#connection.use(async ({ redis }) => ({
      redis,
      keys: this.#keys,
      openBlocking: () => createRedis(this.#config, 'blocking'),
      hasEnded: async (id: string) => (await this.#lookUp([id]))[0] !== 'running',
      onEnd: (id: string, wake: () => void) => this.#listen().onDone((ended) => {
        if (ended === id) wake()
      }),
    }))
    // Of a job that was retried and not taken yet, the log of the run before is no more its own.
    yield* readLog(source, jobId, { ...options, after: Math.max(options.after ?? 0, standing.oldLogEnd) })
  }

  async #status(jobId: string): Promise<JobStatus> {
    const [status = null] = await this.#connection.use((connected) => this.#statuses(connected, [jobId]))
    if (status === null) throw new UnknownJobError(jobId)
    return status
  }

  async #statuses(connected: Connected, jobIds: readonly string[]): Promise<(JobStatus | null)[]> {
    const jobs = await Promise.all(jobIds.map(async (jobId) => [jobId, await connected.queue.getJob(jobId)] as const))
    return this.#describe(connected, new Map(jobs))
  }

  /** @param jobs by their ids, as the queue holds them; undefined for one that it does not. */
  async #describe(connected: Connected, jobs: ReadonlyMap<string, Job<QueuedJob> | undefined>): Promise<(JobStatus | null)[]> {
    const { queue, store, ready, redis } = connected
    const ids = [...jobs.keys()]
    const [runs, around, inHand] = await Promise.all([store.readMany(ids, { forShow: true }), this.#around(connected), this.#inHand(queue, redis, ids)])
    const views = [...jobs.values()].map((job, index) => (job === undefined ? null : viewOf(job, inHand[index] ?? false)))
    // Only of what waits in nobody's hands.
    const waiting = views.map((view) => (view === null || view.finished || view.inHand ? null : view))
    const constraints = waiting.map((view) => (view?.spec === undefined ? '' : constraintsOf(view.spec).id))
    const [tenants, refusals] = await Promise.all([
      lookUpEach(waiting.map((view) => view?.spec?.tenant ?? ''), (name) => ready.tenant(name)),
      lookUpEach([...ids.filter((_id, index) => waiting[index] !== null), ...constraints], (id) => ready.refusals(id)),
    ])
    return ids.map((jobId, index) => {
      const view = views[index] ?? null
      return mergeStatus(jobId, view, runs[index] ?? null, {
        ...around,
        tenant: tenants.get(waiting[index]?.spec?.tenant ?? '') ?? null,
        refusals: refusals.get(jobId) ?? refusals.get(constraints[index] ?? '') ?? null,
        delayedUntilMs: view?.delayedUntilMs ?? null,
      })
    })
  }

  /** What any job of this queue may wait for. */
  async #around({ queue, ledger, roster }: Connected): Promise<Around> {
    const [loads, paused, live] = await Promise.all([ledger.loads(), queue.isPaused(), roster.live()])
    return { loads, paused, consumers: live.filter((consumer) => consumer.queue === this.name), tenant: null, refusals: null, delayedUntilMs: null }
  }

  /** Which of these jobs a consumer holds now: the lock is BullMQ's. */
  async #inHand(queue: Queue<QueuedJob>, redis: Redis, jobIds: readonly string[]): Promise<boolean[]> {
    if (jobIds.length === 0) return []
    const pipeline = redis.pipeline()
    for (const jobId of jobIds) pipeline.exists(`${queue.toKey(jobId)}:lock`)
    return ((await pipeline.exec()) ?? []).map(([error, count]) => {
      if (error !== null) throw error
      return count === 1
    })
  }

  async #cancel(jobId: string, reason: string): Promise<'cancelled' | 'requested' | 'ended'> {
    return await this.#connection.use(async ({ queue, store, ready }) => {
      const [job, stored] = await Promise.all([queue.getJob(jobId), store.read(jobId)])
      if (job === undefined && stored === null) throw new UnknownJobError(jobId)
      const found = job === undefined ? null : viewOf(job, false)
      const view = found !== null && stored !== null && isRetried(found, stored) ? { ...found, generation: Math.max(found.generation, stored.generation + 1) } : found
      // Of a job that BullMQ has not finished, the run that is next may still be untaken; the store decides at once.
      const waiting = view !== null && !view.finished ? cancelledWhileWaiting(jobId, view, reason, this.#options.eventSource) : null
      const outcome = await store.cancel(jobId, reason, waiting)
      if (outcome === 'cancelled') {
        await removeUnlessTaken(job)
        // A place may have been chosen for it just now.
        await ready.close(jobId)
      }
      return outcome
    })
  }
}

function isDelayed(spec: JobSpec): boolean {
  return spec.delayMs !== undefined || spec.runAt !== undefined
}

/** After how many milliseconds a job may run. */
function delayOf({ delayMs, runAt }: JobSpec, nowMs: number): number {
  return delayMs ?? (runAt === undefined ? 0 : Math.max(0, Date.parse(runAt) - nowMs))
}

/** Milliseconds since 1970 by Redis' clock. */
async function timeOf(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.time()
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

/** Looks each name up once; the empty one stands for none. */
async function lookUpEach<Value>(names: readonly string[], lookUp: (name: string) => Promise<Value>): Promise<Map<string, Value>> {
  const distinct = [...new Set(names)].filter((name) => name !== '')
  return new Map(await Promise.all(distinct.map(async (name) => [name, await lookUp(name)] as const)))
}

/** A consumer may be taking it at this moment: then it finds the record ended, and finishes it in BullMQ itself. */
async function removeUnlessTaken(job: Job<QueuedJob> | undefined): Promise<void> {
  try {
    await job?.remove()
  } catch (error) {
    if (!(error instanceof Error && error.message.includes('locked'))) throw error
  }
}
