import { setImmediate as nextTurn } from 'node:timers/promises'
import { type IRedisTransaction, Job, type RedisClient } from 'bullmq'
import { z } from 'zod'
import { IdempotencyConflictError, InvalidInputError, KeyTakenError, NewerReleaseError } from '../job/errors.js'
import { type EventKind, isAsked } from '../job/event-kinds.js'
import { parseInput } from '../job/explain.js'
import { type TraceCarrier, traceCarrierSchema } from '../job/trace-carrier.js'
import { withProducerSpan } from '../telemetry/tracing.js'
import { type JobSpec, type JobSpecInput, parseJobSpec, shortSpec } from '../job/spec.js'
import { defaultRetentionMs, keptByQueue, type Keys, parseAdded, type QueuedJob, queueEnqueued, queueWake, redisNowMs, type SupersededJob, wake } from '../store/index.js'
import { isScriptLost, sendTextsAnew } from '../store/scripts.js'
import { type Claim, claimKeys, newJobId, specDigest } from './idempotency.js'
import { enqueuedEvent } from './enqueued-event.js'
import { endSuperseded } from './job-cancel.js'
import { NotHeldError, retryJob } from './job-retry.js'
import type { Connected } from './producer-connection.js'

export interface EnqueueOptions {
  /**
   * What becomes of a job that has the same `idempotencyKey` and has failed: `keep` (the default) gives it as it is, `rerun` runs it again from
   * the start, unless it is dropped (`concurrency.then`). The spec must be the same.
   */
  readonly onFailed?: 'keep' | 'rerun' | undefined
  /** The span that the jobs continue, by W3C's Trace Context, as of a request that they come from. Default: the active span. A wrong one is none. */
  readonly trace?: TraceCarrier | undefined
}

const enqueueOptions = z.strictObject({ onFailed: z.enum(['keep', 'rerun'], { error: 'must be "keep" or "rerun"' }).optional(), trace: traceCarrierSchema.optional() })

const jobsPerRoundTrip = 1_000
/**
 * Up to so many are sent one by one. A pipeline is made with a method for each script of ours and of BullMQ's, some 250 of them, which takes a process that does little
 * else up to a millisecond.
 */
const fewJobs = 8
/** As many where their events are written with them: they are one transaction, for which everything else waits. */
const jobsPerTransaction = 100
/** How many specs are checked before the event loop has its turn. */
const specsPerTurn = 500
/** After how many problems of many specs the rest is not looked at. */
const mostProblems = 1_000
/** How long a key of a job that never ends is remembered, in milliseconds; the end replaces it by the retention. */
const claimTtlMs = 30 * 24 * 60 * 60 * 1000

export interface NewJob {
  readonly jobId: string
  readonly spec: JobSpec
}

export interface EnqueuingOptions {
  /** The queue's name. */
  readonly name: string
  readonly keys: Keys
  /** Fields that a spec has unless it gives them itself. */
  readonly defaults: Partial<JobSpecInput> | undefined
  readonly maxSpecBytes: number
  readonly retentionMs: number
  /** What the events of jobs that end here name as their source. */
  readonly eventSource: string | undefined
  /** What is told of all jobs besides their end. */
  readonly eventTypes: readonly EventKind[] | undefined
}

/** The way of jobs into a queue: checked → their keys claimed → added to BullMQ and the index in one pipeline → consumers woken. */
export class Enqueuing {
  constructor(private readonly options: EnqueuingOptions) {}

  /** A job of a checked spec. @throws InvalidInputError. */
  newJob(input: unknown): NewJob {
    const { name, defaults, maxSpecBytes } = this.options
    const merged: unknown = defaults !== undefined && typeof input === 'object' && input !== null ? { ...defaults, ...input } : input
    const spec = parseJobSpec(merged, maxSpecBytes)
    const bytes = Buffer.byteLength(JSON.stringify(spec))
    if (bytes > this.#sizeLimit()) {
      throw new InvalidInputError(`job spec: is ${bytes} bytes as the queue holds it, over the limit of ${this.#sizeLimit()}; give fewer, longer steps`)
    }
    return { jobId: newJobId(name, spec.idempotencyKey), spec }
  }

  /** Those of many specs. @throws InvalidInputError, whose problems name the position, from 0. */
  async newJobs(specs: readonly unknown[]): Promise<NewJob[]> {
    const problems: string[] = []
    const jobs: NewJob[] = []
    for (const [index, spec] of specs.entries()) {
      // Checking a hundred thousand takes seconds: whatever else the process does goes on.
      if (index % specsPerTurn === specsPerTurn - 1) await nextTurn()
      try {
        jobs.push(this.newJob(spec))
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error
        if (problems.length >= mostProblems) break
        for (const problem of error.problems) problems.push(`jobs[${index}]: ${problem}`)
      }
    }
    if (problems.length > 0) throw new InvalidInputError(problems[0] ?? '', problems)
    return jobs
  }

  /** A validated spec has its defaults filled in, so it may be larger than what was given. */
  #sizeLimit(): number {
    return this.options.maxSpecBytes * 2
  }

  /** Adds jobs; those that are there already stay as they are, but for `onFailed`. @throws InvalidInputError, IdempotencyConflictError. */
  async add(connected: Connected, jobs: readonly NewJob[], options: EnqueueOptions): Promise<void> {
    const { onFailed, trace = null } = parseInput(enqueueOptions, options, 'enqueue')
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
    const { keys, retentionMs } = this.options
    const fresh = await claimKeys(connected.redis, keys, [...claims.values()], Math.max(claimTtlMs, retentionMs))
    for (const { jobId } of fresh) claims.delete(jobId)
    const { ended, gone } = await this.#known(connected, [...claims.keys()], onFailed === 'rerun')
    const list = [...unique.values()].filter(({ jobId }) => !ended.has(jobId))
    const size = list.some((job) => this.#isTold(job)) ? jobsPerTransaction : jobsPerRoundTrip
    await withProducerSpan(this.options.name, list.map(({ jobId }) => jobId), trace, async (carrier) => {
      for (let start = 0; start < list.length; start += size) await this.#addBatch(connected, list.slice(start, start + size), gone, carrier)
    })
    if (onFailed !== 'rerun') return
    // They have left the queue since it was looked at.
    const left = await this.#rerunFailed(connected, [...claims.keys()])
    if (left.length === 0) return
    const anew = await this.#known(connected, left, true)
    for (const jobId of left) {
      const job = unique.get(jobId)
      if (job !== undefined && !anew.ended.has(jobId)) await this.#addBatch(connected, [job], anew.gone, trace)
    }
  }

  /**
   * Of jobs that were there before, those that have ended and stay so: where BullMQ does not hold one any more it would be another run of it; and those that are
   * gone from the queue, and are added anew.
   */
  async #known({ store }: Connected, jobIds: readonly string[], rerun: boolean): Promise<{ readonly ended: Set<string>; readonly gone: Map<string, GoneJob> }> {
    const ended = new Set<string>()
    const gone = new Map<string, GoneJob>()
    for (let start = 0; start < jobIds.length; start += jobsPerRoundTrip) {
      const part = jobIds.slice(start, start + jobsPerRoundTrip)
      for (const [index, standing] of (await standingsOf(store, part, rerun)).entries()) {
        const jobId = part[index] ?? ''
        const { result, queued, generation } = standing ?? { result: null, queued: true, generation: null }
        if (standing === null || (result !== null && (queued || !rerun || result.status !== 'failed'))) ended.add(jobId)
        else if (!queued) gone.set(jobId, { ended: result !== null, run: (generation ?? 0) + 1 })
      }
    }
    return { ended, gone }
  }

  #isTold({ spec }: NewJob): boolean {
    return isAsked('enqueued', spec, this.options.eventTypes ?? [])
  }

  /** Of jobs that were there before, those that have failed. @returns those that the queue does not hold any more. */
  async #rerunFailed(connected: Connected, jobIds: readonly string[]): Promise<string[]> {
    const left: string[] = []
    for (let start = 0; start < jobIds.length; start += jobsPerRoundTrip) {
      const part = jobIds.slice(start, start + jobsPerRoundTrip)
      const standings = await connected.store.standings(part)
      for (const [index, jobId] of part.entries()) {
        const { result, endedAtMs = null } = standings[index] ?? {}
        // That run: somebody else may have run it again meanwhile, and it may have failed again.
        if (result?.status !== 'failed') continue
        try {
          await retryJob(connected, this.options.keys, jobId, {}, this.options, { endedAtMs })
        } catch (error) {
          if (error instanceof NotHeldError) left.push(jobId)
          // It is dropped, as its spec says of one that comes while others have its key: it stays as it is.
          else if (!(error instanceof KeyTakenError)) throw error
        }
      }
    }
    return left
  }

  /**
   * BullMQ's own scripts for the jobs, and one that lists them and wakes idle consumers, in their order on one connection; where an event tells of one of them,
   * in one transaction with it.
   */
  async #addBatch(connected: Connected, batch: readonly NewJob[], gone: ReadonlyMap<string, GoneJob>, carrier: TraceCarrier | null): Promise<void> {
    const { queue, redis } = connected
    const told = batch.filter((job) => this.#isTold(job))
    const enqueuedAtMs = Date.now()
    const { keys, eventSource: source } = this.options
    // Whoever finds that a delayed job is due goes by Redis' clock.
    const nowMs = batch.some(({ spec }) => isDelayed(spec)) ? await redisNowMs(redis, keys) : enqueuedAtMs
    const jobs = batch.map(({ jobId, spec }) => {
      const delayMs = delayOf(spec, nowMs)
      const options = { ...this.#jobOptions(jobId, spec, delayMs === 0 ? enqueuedAtMs : nowMs), ...(delayMs === 0 ? {} : { delay: delayMs }) }
      const queued = new Job<QueuedJob>(queue, spec.repository, { spec: shortSpec(spec), ...(carrier === null ? {} : { trace: carrier }) }, options, jobId)
      // BullMQ holds both in fields of their own too.
      delete queued.opts.jobId
      delete queued.opts.timestamp
      return { jobId, spec, delayMs, queued }
    })
    const client = await queue.backend.client
    // A Cluster may send one of them to another node than the rest, and then they would change places.
    const isFew = told.length === 0 && jobs.length <= fewJobs && !redis.isCluster
    const begin = () => {
      const pipeline = told.length === 0 ? client.pipeline() : client.multi()
      // Before the jobs: what is there already shows by that.
      for (const { jobId, spec } of told) {
        const before = gone.get(jobId)
        queueEnqueued(pipeline, keys, jobId, enqueuedEvent(jobId, spec, { runId: keys.runId(jobId), run: before?.run ?? 1, anew: before?.ended === false, source, nowMs: enqueuedAtMs }), before?.ended === true)
      }
      return pipeline
    }
    const superseded = isFew ? await sendEach(connected, client, keys, jobs) : await sendTogether(connected, keys, jobs, begin)
    await endSuperseded(connected, superseded, source)
  }

  #jobOptions(jobId: string, spec: JobSpec, timestamp: number) {
    return {
      jobId,
      timestamp,
      // BullMQ runs priority 0 before all others, so there must be one.
      priority: spec.priority,
      // Failover and retries are the consumers' own; BullMQ runs each job once.
      attempts: 1,
      ...(this.options.retentionMs === defaultRetentionMs ? {} : keptByQueue(this.options.retentionMs)),
    }
  }
}

/** A job that was there before, and that the queue does not hold. */
interface GoneJob {
  readonly ended: boolean
  /** Which run of it is next. */
  readonly run: number
}

type Standing = Awaited<ReturnType<Connected['store']['standings']>>[number]

/** In the order of the ids; null for one whose result only a newer release can read: it has ended, and whether it is to run again nobody here can say. */
async function standingsOf(store: Connected['store'], jobIds: readonly string[], rerun: boolean): Promise<(Standing | null)[]> {
  try {
    return await store.standings(jobIds)
  } catch (error) {
    if (!(error instanceof NewerReleaseError) || rerun) throw error
    if (jobIds.length === 1) return [null]
    const middle = Math.ceil(jobIds.length / 2)
    return [...(await standingsOf(store, jobIds.slice(0, middle), rerun)), ...(await standingsOf(store, jobIds.slice(middle), rerun))]
  }
}

interface AddedJob extends NewJob {
  readonly delayMs: number
  readonly queued: Job<QueuedJob>
}

/** @returns the jobs that were superseded. */
async function sendTogether(connected: Connected, keys: Keys, jobs: readonly AddedJob[], begin: () => IRedisTransaction): Promise<SupersededJob[]> {
  const pipeline = begin()
  let answers = await answersOf(connected, keys, jobs, pipeline)
  if (answers.some(([error]) => isScriptLost(error))) {
    sendTextsAnew(pipeline)
    answers = await answersOf(connected, keys, jobs, begin())
  }
  for (const [error] of answers) if (error !== null) throw error
  // Only what lists them answers by a list.
  return answers.flatMap(([, answer]) => (Array.isArray(answer) ? parseAdded(answer).superseded : []))
}

async function answersOf({ ready, waits }: Connected, keys: Keys, jobs: readonly AddedJob[], pipeline: IRedisTransaction): Promise<[error: Error | null, answer: unknown][]> {
  // Only queues the command; its answer, or its error, comes with the pipeline's.
  for (const { queued } of jobs) void queued.addJob(pipeline)
  const due = jobs.filter(({ delayMs }) => delayMs === 0)
  waits.queueAdd(pipeline, jobs)
  if (due.length > 0) ready.queueAdd(pipeline, due)
  if (due.length < jobs.length) queueWake(pipeline, keys, jobs.length - due.length)
  return (await pipeline.exec()) ?? []
}

/** The same commands, each by itself. */
async function sendEach({ redis, ready, waits }: Connected, client: RedisClient, keys: Keys, jobs: readonly AddedJob[]): Promise<SupersededJob[]> {
  const due = jobs.filter(({ delayMs }) => delayMs === 0)
  const delayed = jobs.length - due.length
  const sent: Promise<unknown>[] = jobs.map(async ({ queued }) => queued.addJob(client))
  sent.push(waits.add(jobs))
  const listed = ready.add(due, { wake: due.length })
  sent.push(listed)
  if (delayed > 0) sent.push(wake(redis, keys, delayed))
  // None is left under way when one fails.
  for (const answer of await Promise.allSettled(sent)) if (answer.status === 'rejected') throw answer.reason
  return (await listed).superseded
}

function isDelayed(spec: JobSpec): boolean {
  return spec.delayMs !== undefined || spec.runAt !== undefined
}

/** After how many milliseconds a job may run. */
function delayOf({ delayMs, runAt }: JobSpec, nowMs: number): number {
  return delayMs ?? (runAt === undefined ? 0 : Math.max(0, Date.parse(runAt) - nowMs))
}
