import { checkKinds, type EventKind, EventGroups } from '../events/index.js'
import { z } from 'zod'
import { timeZoneProblem } from '../job/days.js'
import type { Fleet, JobView } from '../job/fleet.js'
import { CheckpointGoneError, InvalidInputError, KeyTakenError, QueueClosedError, UnknownJobError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import type { LogLine } from '../job/log.js'
import { mayBeJobId } from '../job/names.js'
import type { JobResult } from '../job/result.js'
import { defaultMaxSpecBytes, type JobSpec, type JobSpecInput } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import { costsOf, createRedis, defaultQueueName, defaultRetentionMs, Keys, type LiveConsumer, type ProviderLoad, readLog, type ReadLogOptions, type RedisConfig, Signals, type TenantCost } from '../store/index.js'
import type { Metrics } from '../telemetry/metrics.js'
import { checkCall, checkList, checkObject } from '../job/call-options.js'
import { Enqueuing, type EnqueueOptions } from './enqueuing.js'
import { Budgets } from './budgets.js'
import { cancelJob, cancelWaitingJob } from './job-cancel.js'
import { fleetOf, jobViewOf } from './fleet.js'
import type { JobHandle } from './job-handle.js'
import { type JobPage, listJobs, type ListOptions } from './job-pages.js'
import { Operations } from './operations.js'
import { NotHeldError, type RetryFilter, type RetryOptions, retryJob, type SeenRun } from './job-retry.js'
import { type Connected, ProducerConnection } from './producer-connection.js'
import { specToRun } from './queue-view.js'
import { ResultWaiter } from './result-waiter.js'
import { Schedules } from './schedules.js'
import { statusesOf } from './statuses.js'

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
  /** What is told of every job of this queue besides its end; the consumers' are to be the same. Default: nothing, unless the job asks. */
  readonly eventTypes?: readonly EventKind[] | undefined
  /** By whose days costs are counted; the consumers' is to be the same. Default UTC. */
  readonly timeZone?: string | undefined
  /** What tenants may cost a day, as the consumers have it; for `budgets.list` alone. */
  readonly budgets?: Readonly<Record<string, number>> | undefined
  /** Where its Redis commands are measured, and jobs that end while they wait: `PrometheusMetrics` of `switchyard/monitor`. Default: nowhere. */
  readonly metrics?: Metrics | undefined
}


/** What other parts of Switchyard that work with a queue share with it; not for users. */
export interface QueueAccess {
  readonly redis: RedisConfig
  readonly keys: Keys
  readonly maxSpecBytes: number
  /** By whose days costs are counted. */
  readonly timeZone: string
  /** A job as it would be enqueued. @throws InvalidInputError. */
  readonly checkedSpec: (input: unknown) => JobSpec
  /** That of a job that the queue holds, as a consumer reads it; null for one that none of this release would run, undefined for no job. @throws RedisUnavailableError. */
  readonly storedSpec: (jobId: string) => Promise<JobSpec | null | undefined>
  /** @throws RedisUnavailableError. */
  readonly use: <T>(work: (connected: Connected) => Promise<T>) => Promise<T>
}

let accessTo: (queue: AgentQueue) => QueueAccess

/** @internal */
export function accessOf(queue: AgentQueue): QueueAccess {
  return accessTo(queue)
}

const costsSchema = z.object({ since: z.string({ error: 'must be a day, such as "2026-12-01"' }).nullish().transform((since) => since ?? undefined), tenant: z.string({ error: 'must be the name of a tenant' }).optional() })

/**
 * The producers' side of a queue: enqueue jobs, wait for them, read their output, cancel them. Needs Redis and nothing
 * else; connections are opened at the first use. Every call fails with RedisUnavailableError within a second while
 * Redis is away; only waits that are under way go on.
 */
export class AgentQueue {
  readonly name: string
  /** The deployment's prefix. */
  readonly prefix: string
  /** The groups that read the deployment's completion events, and what they have given up. */
  readonly events: EventGroups
  /** What tenants and jobs may cost. */
  readonly budgets: Budgets
  /** Jobs that are enqueued again and again, by the clock. */
  readonly schedules: Schedules
  /** What operators do while it runs: drain, pause, limits, shares. */
  readonly operations: Operations
  readonly #config: RedisConfig
  readonly #options: AgentQueueOptions
  readonly #keys: Keys
  readonly #enqueuing: Enqueuing
  readonly #connection: ProducerConnection
  readonly #timeZone: string
  readonly #waiter: ResultWaiter
  #signals: Signals | undefined

  static {
    accessTo = (queue) => ({
      redis: queue.#config,
      keys: queue.#keys,
      maxSpecBytes: queue.#options.maxSpecBytes ?? defaultMaxSpecBytes,
      timeZone: queue.#timeZone,
      checkedSpec: (input) => queue.#enqueuing.newJob(input).spec,
      storedSpec: (jobId) => queue.#connection.use(async ({ queue: held }) => {
        const job = mayBeJobId(jobId) ? await held.getJob(jobId) : undefined
        return job === undefined ? undefined : specToRun(job.data)
      }),
      use: (work) => queue.#connection.use(work),
    })
  }

  /** @throws InvalidInputError when the URL, the name or the prefix is wrong. */
  constructor(options: AgentQueueOptions) {
    this.name = options.name ?? defaultQueueName
    if (this.name === '' || this.name.includes(':')) throw new InvalidInputError(`name: "${this.name}" must not be empty or hold ":"`)
    this.#options = options
    this.#config = options.redis
    this.#timeZone = checkTimeZone(options.timeZone ?? 'UTC')
    this.#keys = new Keys(options.prefix, this.name)
    this.prefix = this.#keys.prefix
    const { defaults, maxSpecBytes = defaultMaxSpecBytes, retentionMs = defaultRetentionMs } = options
    this.#enqueuing = new Enqueuing({ name: this.name, keys: this.#keys, defaults, maxSpecBytes, retentionMs, eventSource: options.eventSource, eventTypes: options.eventTypes === undefined ? undefined : checkKinds(options.eventTypes, 'eventTypes') })
    this.#connection = new ProducerConnection(this.#config, this.#keys, retentionMs, options.metrics)
    this.events = new EventGroups(this.#keys, (work) => this.#connection.use(({ redis }) => work(redis)))
    this.budgets = new Budgets(this.#keys, this.#timeZone, options.budgets ?? {}, (work) => this.#connection.use(work))
    this.schedules = new Schedules(this.#keys, (spec) => this.#enqueuing.newJob(spec).spec, (work) => this.#connection.use(work))
    this.operations = new Operations(this.#keys, (work) => this.#connection.use(work), {
      list: (page) => this.list(page),
      retry: (jobId, how, seen) => this.#retry(jobId, how, seen),
      cancel: (jobId, reason) => this.#cancel(jobId, reason),
      cancelWaiting: (jobId, reason) => this.#connection.use((connected) => cancelWaitingJob(connected, jobId, reason, options.eventSource)),
    })
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
    const job = this.#enqueuing.newJob(spec)
    await this.#connection.use((connected) => this.#enqueuing.add(connected, [job], options))
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
    checkList(specs, 'jobs')
    const jobs = await this.#enqueuing.newJobs(specs)
    await this.#connection.use((connected) => this.#enqueuing.add(connected, jobs, options))
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
    return await this.#connection.use((connected) => listJobs({ ...connected, keys: this.#keys }, options, (jobIds) => statusesOf(connected, this.name, jobIds, { reasons: options.reasons })))
  }

  /**
   * Where jobs stand, and what each waits for; as many round trips for many as for one.
   * @returns in the order of the ids, null for a job that nobody knows.
   */
  async statuses(jobIds: readonly string[]): Promise<(JobStatus | null)[]> {
    checkList(jobIds, 'jobIds')
    const possible = await this.#connection.use((connected) => statusesOf(connected, this.name, jobIds.filter(mayBeJobId)))
    return jobIds.map((jobId) => (mayBeJobId(jobId) ? (possible.shift() ?? null) : null))
  }

  /**
   * Runs a job again that has ended, as a run of its own: `result()`, `logs()` and `status()` are the new one's from then on.
   * @returns `retried`; `pending` when it waits or runs already, and nothing was done.
   * @throws InvalidInputError (also when the queue does not hold the job any more), CheckpointGoneError, KeyTakenError, UnknownJobError, RedisUnavailableError.
   */
  async retry(jobId: string, options: RetryOptions = {}): Promise<'retried' | 'pending'> {
    return await this.#retry(jobId, options)
  }

  /**
   * Runs all ended jobs again that a filter finds, as `retry` does, one after the other.
   * @param filter as for `list`; without a `state` the failed ones.
   * @returns the ids of those that were; those that leave the queue meanwhile are not among them.
   * @throws as `list` and `retry`; what was run again by then stays so. CheckpointGoneError comes last, with all that have no checkpoint, and else KeyTakenError,
   * with all whose key of concurrency others have: the rest was run again.
   */
  async retryMany(filter: RetryFilter = {}, options: RetryOptions = {}): Promise<string[]> {
    checkObject(filter, 'list')
    checkObject(options, 'retry')
    const found = new Map<string, SeenRun>()
    const wanted: ListOptions = { ...filter, state: filter.state ?? 'failed', limit: 1_000, reasons: false }
    if (wanted.state === 'succeeded' && options.from === 'checkpoint') throw new InvalidInputError('retryMany: state: jobs that have succeeded can’t go on from a checkpoint; leave out "from"')
    // All are found first: what is run again leaves the list.
    let page = await this.list(wanted)
    for (;;) {
      for (const { jobId, endedAtMs } of page) found.set(jobId, { endedAtMs })
      if (page.cursor === null) break
      page = await this.list({ ...wanted, cursor: page.cursor })
    }
    const again: string[] = []
    const without: CheckpointGoneError[] = []
    const taken: KeyTakenError[] = []
    for (const [jobId, seen] of found) {
      try {
        if ((await this.#retry(jobId, options, seen)) === 'retried') again.push(jobId)
      } catch (error) {
        if (error instanceof CheckpointGoneError) without.push(error)
        else if (error instanceof KeyTakenError) taken.push(error)
        // It was removed since it was found, or went as the oldest of those that the queue keeps: the others are run again all the same.
        else if (!(error instanceof NotHeldError || error instanceof UnknownJobError)) throw error
      }
    }
    const [first] = without
    if (first !== undefined) throw new CheckpointGoneError(without.flatMap(({ jobIds }) => jobIds), first.why, again)
    const [other] = taken
    if (other !== undefined) throw new KeyTakenError(taken.flatMap(({ jobIds }) => jobIds), other.key, other.takenBy, again)
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

  /**
   * What sandboxes cost by tenant and day, the latest day first; of jobs that run and have no budget, when they have ended.
   * @param which.since the first day, such as `2026-12-01`, at most 40 days ago. Default: today. @param which.tenant whose. Default: everybody's.
   * @throws InvalidInputError, RedisUnavailableError.
   */
  async costs(which: { readonly since?: string | undefined; readonly tenant?: string | undefined } = {}): Promise<TenantCost[]> {
    const { since, tenant } = parseInput(costsSchema, which, 'costs')
    const tenants = tenant === undefined ? undefined : [tenant]
    return await this.#connection.use(({ redis }) => costsOf(redis, this.#keys, { since, tenants, timeZone: this.#timeZone, nowMs: Date.now() }))
  }

  /**
   * The deployment at a glance, with this queue's jobs: bounded lists, and the same few round trips however much waits.
   * @throws RedisUnavailableError.
   */
  async fleet(): Promise<Fleet> {
    return await this.#connection.use((connected) => fleetOf(connected, this.#keys))
  }

  /** A job with its course and the end of its output, for a page; null when nobody knows it. @throws RedisUnavailableError. */
  async view(jobId: string): Promise<JobView | null> {
    return mayBeJobId(jobId) ? await this.#connection.use((connected) => jobViewOf(connected, this.#keys, jobId)) : null
  }

  /** Closes the connections; waits under way fail. Jobs go on. */
  async close(): Promise<void> {
    this.#waiter.close(new QueueClosedError('the queue was closed while a result was waited for; the job goes on: make a new AgentQueue, and ask again'))
    this.#signals?.close()
    await this.#connection.close()
  }

  /** The results of jobs, for those who wait: one round trip. Of a job that was retried, that of the run that is next. */
  async #lookUp(jobIds: readonly string[]): Promise<(JobResult | 'running' | 'unknown')[]> {
    return await this.#connection.use(async ({ store }) => (await store.standings(jobIds)).map(({ known, expired, result }) => result ?? (known && !expired ? 'running' : 'unknown')))
  }

  #listen(): Signals {
    // One that is made now nobody would close.
    this.#connection.assertOpen()
    return (this.#signals ??= new Signals(createRedis(this.#config, 'subscriber'), this.#keys))
  }

  async *#logs(jobId: string, options: ReadLogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    checkCall(options, 'logs')
    checkSeq(options.after ?? 0)
    const [standing] = await this.#connection.use(({ store }) => store.standings([jobId]))
    if (standing?.known !== true || standing.expired) throw new UnknownJobError(jobId)
    const source = await this.#connection.use(async ({ redis }) => ({
      redis,
      keys: this.#keys,
      openBlocking: () => createRedis(this.#config, 'blocking'),
      standing: async (id: string) => {
        const [found] = await this.#lookUp([id])
        return typeof found === 'object' ? ('ended' as const) : (found ?? ('unknown' as const))
      },
      onEnd: async (id: string, wake: () => void) => {
        try {
          return await this.#listen().onDone((ended) => {
            if (ended === id) wake()
          })
        } catch (error) {
          this.#connection.assertOpen()
          throw error
        }
      },
    }))
    // Of a job that was retried and not taken yet, the log of the run before is no more its own.
    yield* readLog(source, jobId, { ...options, after: Math.max(options.after ?? 0, standing.oldLogEnd) })
  }

  async #status(jobId: string): Promise<JobStatus> {
    const [status = null] = await this.statuses([jobId])
    if (status === null) throw new UnknownJobError(jobId)
    return status
  }

  async #retry(jobId: string, options: RetryOptions, seen?: SeenRun): Promise<'retried' | 'pending'> {
    checkId(jobId)
    return await this.#connection.use((connected) => retryJob(connected, this.#keys, jobId, options, this.#options, seen))
  }

  async #cancel(jobId: string, reason: string): Promise<'cancelled' | 'requested' | 'ended'> {
    checkId(jobId)
    // Nobody could read the result of a job that ends without one.
    if (typeof reason !== 'string') throw new InvalidInputError('reason: is missing; say by a text why the job is cancelled')
    return await this.#connection.use((connected) => cancelJob(connected, jobId, reason, this.#options.eventSource))
  }
}

function checkId(jobId: string): void {
  if (!mayBeJobId(jobId)) throw new UnknownJobError(jobId)
}

/** What Redis takes for the first part of an entry's id. */
function checkSeq(after: unknown): void {
  const seq = Number(after)
  if (!Number.isInteger(seq) || seq >= 1e19) throw new InvalidInputError('after: must be the sequence number of a piece of output, its `seq`')
}

function checkTimeZone(timeZone: string): string {
  const problem = timeZoneProblem(timeZone)
  if (problem !== undefined) throw new InvalidInputError(`timeZone: ${problem}`)
  return timeZone
}
