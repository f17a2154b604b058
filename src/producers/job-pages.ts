import type { JobType, Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import type { JobStatus } from '../job/status.js'
import type { Keys } from '../store/index.js'
import { runScript } from '../store/scripts.js'
import { typesOf } from './queue-view.js'

/** Which jobs are listed. */
export interface ListOptions {
  readonly state?: JobStatus['state'] | undefined
  /** One tenant, or several of whose jobs any may be listed, at most 100. */
  readonly tenant?: string | readonly string[] | undefined
  readonly repository?: string | undefined
  /** Only jobs that were enqueued then or later; a time, or milliseconds since 1970. */
  readonly since?: Date | number | undefined
  /** Only ended jobs whose result has an error of this kind, such as `provider-down`, or with this code, such as `SWY_STEP_FAILED`. */
  readonly error?: string | undefined
  /** How many at most, from 1 to 1,000. Default 50. */
  readonly limit?: number | undefined
  /** Whether what each job waits for is looked up; without it `reason` is at most what was said of it last, and the page costs two thirds. Default true. */
  readonly reasons?: boolean | undefined
  /** Go on behind an earlier page; its other options must be the same. */
  readonly cursor?: string | undefined
}

/** Some jobs, the newest first. */
export type JobPage = JobStatus[] & {
  /** For the next page; null when there is none. A page may be short, even empty, and still have one: a call looks at so many jobs only. */
  readonly cursor: string | null
}

/**
 * Behind how much of one of BullMQ's sets or lists one stands: the last score, how many have it, and the last of these: they stand by their ids, so that nobody is passed
 * over when some of them are gone. Of a list without a score, how many from its newest end
 * on; with the score 0 how many are left to its oldest end, so that nobody is passed over when others leave that were looked at.
 */
const position = z.strictObject({ score: z.string().max(40).regex(/^-?\d+(\.\d+)?(e[+-]?\d+)?$/).nullable(), skip: z.int().min(0), last: z.string().optional() })
type Position = z.output<typeof position>
const cursorSchema = z.strictObject({ filter: z.string(), at: z.array(position.nullable()) })

const stateSchema = z.enum(['waiting', 'running', 'parked', 'succeeded', 'failed', 'cancelled'], { error: 'must be "waiting", "running", "parked", "succeeded", "failed" or "cancelled"' })
const tenantSchema = z.string().min(1, 'is empty; leave it out')
const optionsSchema = z.strictObject({
  state: stateSchema.optional(),
  tenant: z.union([tenantSchema, z.array(tenantSchema).min(1, 'is empty; leave it out').max(100, 'names more than 100 tenants')], { error: 'must be the name of a tenant, or a list of them' }).optional(),
  repository: z.string().min(1, 'is empty; leave it out').optional(),
  since: z.union([z.date(), z.number().min(0)], { error: 'must be a Date, or milliseconds since 1970' }).optional(),
  error: z.string().regex(/^[A-Za-z_-]{1,60}$/, 'must be a kind of error such as "provider-down", or a code such as "SWY_STEP_FAILED"').optional(),
  limit: z.int('must be a whole number').min(1, 'must be from 1 to 1000').max(1_000, 'must be from 1 to 1000').default(50),
  reasons: z.boolean('must be true or false').optional(),
  cursor: z.string().optional(),
})

/** How many jobs are looked at in one step, and about how many in one call. */
const jobsPerStep = 200
const jobsPerCall = 20_000
/** BullMQ's sets; whatever else holds jobs is a list. */
const sets = new Set<JobType>(['prioritized', 'delayed', 'waiting-children', 'completed', 'failed'])
const listReply = z.tuple([z.number(), z.array(z.string())])
type Read = z.output<typeof listReply>

/** A job that may be listed, when it was enqueued, and the position behind it. */
interface Found {
  readonly jobId: string
  readonly atMs: number
  readonly behind: Position
}

/**
 * One page of a queue's jobs. BullMQ keeps them by state, each in an order of its own; the page takes from each the next ones that match,
 * always that which was enqueued last. What a call costs is bounded whatever the queue holds: the cursor says how far it came.
 * @param describe jobs as they stand; null for one that is gone meanwhile.
 * @throws InvalidInputError for options or a cursor that can't be.
 */
export async function listJobs(
  { redis, queue, keys }: { readonly redis: Redis; readonly queue: Queue; readonly keys: Keys },
  given: ListOptions,
  describe: (jobIds: readonly string[]) => Promise<(JobStatus | null)[]>,
): Promise<JobPage> {
  const { limit, cursor, state, tenant, repository, since, error } = parseInput(optionsSchema, given, 'list')
  const [first = '', ...others] = typeof tenant === 'string' ? [tenant] : (tenant ?? [])
  const which = [state ?? '', first, repository ?? '', since === undefined ? '' : Number(since), error ?? ''] as const
  const filter = [...which, ...others]
  const types = typesOf(state)
  const starts = cursor === undefined ? types.map(() => ({ score: null, skip: 0 })) : positionsOf(cursor, JSON.stringify(filter), types.length)
  const budget = { left: jobsPerCall }
  const match = async (jobIds: readonly string[]): Promise<string[]> => {
    if (jobIds.length === 0) return []
    // Not a key each: they would be three times as long.
    const jobs = jobIds.flatMap((jobId) => [jobId, keys.runId(jobId) === jobId ? '' : keys.runId(jobId)])
    return z.array(z.string()).parse(await runScript(redis, 'jobs-match', [keys.job(''), keys.ofRuns().run('')], [...which, others.length, ...others, ...jobs]))
  }
  const sources = types.map((type, index) => new Source(redis, queue.toKey(type === 'waiting' ? 'wait' : type), sets.has(type) ? 'set' : type === 'active' ? 'leaving' : 'list', starts[index] ?? null, match, budget))

  await Promise.all(sources.map((source) => source.findPlace()))
  await readFirst(redis, sources)
  const seen = new Set<string>()
  const page: JobStatus[] = []
  while (page.length < limit) {
    const next: string[] = []
    while (next.length < Math.min(limit - page.length, jobsPerStep)) {
      await Promise.all(sources.map((source) => source.fill()))
      // One that could not be filled might have a newer job.
      if (sources.some((source) => source.head === undefined && !source.isOver)) break
      const newest = sources.reduce((best, source) => ((source.head?.atMs ?? -1) > (best?.head?.atMs ?? -1) ? source : best), sources[0])
      const found = newest?.take()
      if (found === undefined) break
      if (!seen.has(found.jobId)) next.push(found.jobId)
      seen.add(found.jobId)
    }
    if (next.length === 0) break
    budget.left -= next.length
    for (const status of await describe(next)) if (status !== null && (state === undefined || status.state === state) && (error === undefined || hasError(status, error))) page.push(status)
  }
  page.sort((a, b) => b.enqueuedAtMs - a.enqueuedAtMs)
  const over = sources.every((source) => source.isOver && source.head === undefined)
  const at = sources.map((source) => source.position)
  const next = over ? null : Buffer.from(JSON.stringify({ filter: JSON.stringify(filter), at })).toString('base64url')
  // Beside the entries, so that a page is still nothing but the array of them to whoever compares or prints it.
  return Object.defineProperty(page, 'cursor', { value: next, enumerable: false }) as JobPage
}

function hasError({ result }: JobStatus, error: string): boolean {
  return result?.error != null && (result.error.kind === error || result.error.code === error)
}

function positionsOf(cursor: string, filter: string, count: number): (Position | null)[] {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {
    value = null
  }
  const parsed = cursorSchema.safeParse(value)
  if (!parsed.success || parsed.data.filter !== filter || parsed.data.at.length !== count) {
    throw new InvalidInputError('cursor: is none that list() gave for the same state, tenant, repository, since and error; leave it out to begin anew')
  }
  return parsed.data.at
}

/** Looks at all of them in one step: a job that goes from one to the next meanwhile stands in either. */
async function readFirst(redis: Redis, sources: readonly Source[]): Promise<void> {
  const asking = sources.flatMap((source) => {
    const asked = source.ask()
    return asked === null ? [] : [{ source, asked }]
  })
  if (asking.length === 0) return
  const answers = await readTogether(redis, asking.map(({ asked }) => asked))
  for (const [index, read] of answers.entries()) asking[index]?.source.hear(read)
}

/** A step of a set, behind so many of those with that score or less; or a part of a list. */
type Asked = readonly [key: string, ...(readonly [kind: 'set', score: string, skip: number] | readonly [kind: 'list', first: number, last: number])]

/** By a script and not by a transaction, which Redis refuses for whatever stands in it when its memory is full. */
async function readTogether(redis: Redis, asked: readonly Asked[]): Promise<Read[]> {
  return z.array(listReply).parse(await runScript(redis, 'jobs-read', asked.map(([key]) => key), [jobsPerStep, ...asked.flatMap(([, ...part]) => part)]))
}

type Entry = Omit<Found, 'atMs'>

/** The positions of entries of a list of which so many are left, these among them. */
function withLeft(jobIds: readonly string[], left: number): Entry[] {
  return jobIds.map((jobId, index) => ({ jobId, behind: { score: '0', skip: left - index - 1 } }))
}

/** What one of BullMQ's sets or lists holds from a position on, the newest first. */
class Source {
  readonly #matching: Found[] = []
  /** Behind all that was looked at, and behind what was taken of it. */
  #looked: Position
  #taken: Position
  #over: boolean
  #first: Entry[] | undefined

  /** @param start null when there was nothing left of it. */
  constructor(
    private readonly redis: Redis,
    private readonly key: string,
    private readonly kind: 'set' | 'list' | 'leaving',
    start: Position | null,
    private readonly match: (jobIds: readonly string[]) => Promise<string[]>,
    private readonly budget: { left: number },
  ) {
    this.#over = start === null
    this.#looked = this.#taken = start ?? { score: null, skip: 0 }
  }

  get head(): Found | undefined {
    return this.#matching[0]
  }

  get isOver(): boolean {
    return this.#over
  }

  /** Where the next page goes on; null when nothing is left. */
  get position(): Position | null {
    if (this.head !== undefined) return this.#taken
    return this.#over ? null : this.#looked
  }

  take(): Found | undefined {
    const found = this.#matching.shift()
    if (found !== undefined) this.#taken = found.behind
    return found
  }

  /** Some that have the score of the last one looked at, and were looked at as well, may be gone. */
  async findPlace(): Promise<void> {
    const { score, skip, last } = this.#looked
    if (this.#over || this.kind !== 'set' || score === null || last === undefined) return
    const bytes = Buffer.from(last)
    const before = await this.redis.zrange(this.key, score, score, 'BYSCORE', 'REV', 'LIMIT', 0, skip)
    this.#looked = this.#taken = { score, skip: before.filter((jobId) => Buffer.compare(Buffer.from(jobId), bytes) >= 0).length, last }
  }

  /** Its first read, for those that are made in one step; null where it has none that could be. */
  ask(): Asked | null {
    const { score, skip } = this.#looked
    if (this.#over || (this.kind === 'leaving' && score !== null)) return null
    return this.kind === 'set' ? [this.key, 'set', score ?? '+inf', skip] : [this.key, 'list', skip, skip + jobsPerStep - 1]
  }

  hear([length, found]: Read): void {
    this.#first = this.kind === 'set' ? this.#withScores(found) : this.kind === 'leaving' ? withLeft(found, length) : this.#fromNewest(found)
  }

  /** Looks on until there is a job that matches, nothing is left, or the call has looked at enough. */
  async fill(): Promise<void> {
    while (this.head === undefined && !this.#over && this.budget.left > 0) {
      this.#taken = this.#looked
      const entries = this.#first ?? (await this.#read())
      this.#first = undefined
      this.budget.left -= entries.length
      if (entries.length === 0) {
        this.#over = true
        return
      }
      const times = await this.match(entries.map(({ jobId }) => jobId))
      for (const [index, time] of times.entries()) {
        const entry = entries[index]
        if (entry === undefined) break
        this.#looked = entry.behind
        if (time !== '') this.#matching.push({ ...entry, atMs: Number(time) })
      }
    }
  }

  async #read(): Promise<Entry[]> {
    const { score, skip } = this.#looked
    if (this.kind === 'leaving') return await this.#readBackwards(score === null ? Infinity : skip)
    if (this.kind === 'list') {
      return this.#fromNewest(await this.redis.lrange(this.key, skip, skip + jobsPerStep - 1))
    }
    return this.#withScores(await this.redis.zrange(this.key, score ?? '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', skip, jobsPerStep, 'WITHSCORES'))
  }

  #fromNewest(jobIds: readonly string[]): Entry[] {
    return jobIds.map((jobId, index) => ({ jobId, behind: { score: null, skip: this.#looked.skip + index + 1 } }))
  }

  #withScores(flat: readonly string[]): Entry[] {
    let behind = this.#looked
    return flat.flatMap((jobId, index) => {
      if (index % 2 === 1) return []
      const own = flat[index + 1] ?? ''
      behind = { score: own, skip: own === behind.score ? behind.skip + 1 : 1, last: jobId }
      return [{ jobId, behind }]
    })
  }

  /** Of a list to which jobs come at its newest end alone: the next ones of so many that are left. Those that have left of these are made up for by some that were looked at. */
  async #readBackwards(left: number): Promise<Entry[]> {
    for (let from = Math.min(left, await this.redis.llen(this.key)); ; ) {
      if (from === 0) return []
      const [read] = await readTogether(this.redis, [[this.key, 'list', -from, jobsPerStep - from - 1 < 0 ? jobsPerStep - from - 1 : -1]])
      const [length, jobIds] = read ?? [0, []]
      if (length >= from) return withLeft(jobIds, from)
      from = length
    }
  }
}
