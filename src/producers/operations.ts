import { z } from 'zod'
import { counted } from '../job/counted.js'
import { InvalidInputError, RedisUnavailableError, UnknownNameError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { appendAudit, askToLeave, type AuditEntry, type Heeded, type KeptAuditEntry, type Keys, type LiveConsumer, mostOperatedTenants, type OperatorWord, type ProviderDrain, type ProviderLimitSet, readAudit, redisNowMs, type Said, type Saying, tenantLoads, type TenantShareSet, type TenantStanding } from '../store/index.js'
import { checkObject, isEntryId } from '../job/call-options.js'
import { BulkInterruptedError, type BulkOptions, type BulkResult, mostBulk, toMany } from './job-bulk.js'
import type { JobPage, ListOptions } from './job-pages.js'
import type { RetryOptions, SeenRun } from './job-retry.js'
import type { JobFilter } from './job-where.js'
import type { Connected } from './producer-connection.js'
import { tenantName } from '../job/tenant-name.js'

/** Who operates: for the audit log, and for those whose jobs wait because of it. */
export interface Operator {
  /** Such as an API key's id; `operator` for the command line. */
  readonly id: string
  readonly name: string
}

/** What can be said with most operations. */
export interface OperateOptions {
  readonly by: Operator
  /** Shown wherever a job waits because of it. */
  readonly reason?: string | undefined
  /** After how many milliseconds it is over by itself. Left out: when it is taken back. */
  readonly forMs?: number | undefined
}

/** What an operation changed. */
export interface Change<Word> {
  /** False when it was so before, and nothing was done. */
  readonly changed: boolean
  readonly before: Word | null
  readonly after: Word | null
  /** Live consumers of a release that does not heed this: they go on as before. */
  readonly ignoredBy: readonly string[]
}

const oneLine = (longest: number) => z.string({ error: 'must be a text' }).min(1, 'is empty; leave it out').max(longest, `is longer than ${longest} characters`).regex(/^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]*$/u, 'must be one line without control characters')
const longestMs = 366 * 24 * 60 * 60 * 1000
const operatorSchema = z.object({ id: oneLine(200), name: z.string().max(200).transform((name) => name.replace(/\p{Cs}/gu, '\ufffd')) })
const optionsSchema = z.object({
  by: operatorSchema,
  reason: oneLine(200).optional(),
  forMs: z.int('must be a whole number of milliseconds').min(1_000, 'must be at least a second').max(longestMs, 'must be at most a year').optional(),
})
const limitSchema = z.int('must be a whole number of sandboxes').min(1, 'must be at least 1; drain the provider to have no new sandboxes there').max(100_000, 'must be at most 100000')
const shareSchema = z.object({
  weight: z.number({ error: 'must be a number' }).positive('must be more than 0').max(1_000_000, 'must be at most 1000000'),
  cap: z.int('must be a whole number of jobs').min(1, 'must be at least 1; pause the tenant to have none of its jobs begun').max(100_000, 'must be at most 100000').optional(),
})
const tenantSchema = tenantName()
const providerSchema = z.string({ error: 'must be the name of a provider' })
const consumerSchema = z.string({ error: 'must be the id of a consumer, or the beginning of it' })
const notedSchema = z.object({ by: operatorSchema, action: z.string(), targets: z.array(z.string()) })
const entryId = z.string({ error: 'must be the id of an entry' }).refine(isEntryId, 'must be the id of an entry, as auditLog gives it')
const auditSchema = z.object({ limit: z.int('must be a whole number').min(1, 'must be at least 1').default(50), before: entryId.nullish() })

/**
 * What operators do to a deployment while it runs. What they say stands in Redis, so that every consumer heeds it with its next look, and it holds
 * until it is taken back or its time is over, whatever restarts meanwhile. Each change is one atomic step, with its entry in the audit log in the same one.
 */
export class Operations {
  constructor(
    private readonly keys: Keys,
    private readonly use: <T>(work: (connected: Connected) => Promise<T>) => Promise<T>,
    private readonly jobs: {
      readonly list: (options: ListOptions) => Promise<JobPage>
      readonly retry: (jobId: string, options: RetryOptions, seen: SeenRun) => Promise<'retried' | 'pending'>
      readonly cancel: (jobId: string, reason: string) => Promise<'cancelled' | 'requested' | 'ended'>
      readonly cancelWaiting: (jobId: string, reason: string) => Promise<boolean>
    },
  ) {}

  /**
   * No new sandboxes at a provider; what runs there goes on.
   * @param options.move ask jobs that run there to move, each at its next checkpoint, as soon as another provider has a place.
   * @throws UnknownNameError, InvalidInputError, RedisUnavailableError; the other operations too.
   */
  async drainProvider(provider: string, options: OperateOptions & { readonly move?: boolean | undefined }): Promise<Change<ProviderDrain>> {
    const saying = sayingOf(options, 'drainProvider', parseInput(providerSchema, provider, 'provider'))
    const { move = false } = options
    return await this.ofProvider(provider, move ? 'move' : 'drain', async ({ operators }) => await operators.drain(provider, { move }, saying))
  }

  async resumeProvider(provider: string, options: Pick<OperateOptions, 'by'>): Promise<Change<ProviderDrain>> {
    const saying = sayingOf(options, 'resumeProvider', parseInput(providerSchema, provider, 'provider'))
    return await this.ofProvider(provider, 'drain', async ({ operators }) => await operators.drain(provider, null, saying))
  }

  /**
   * Another limit than the configured one, in every consumer.
   * @param sandboxes null for the configured one again.
   */
  async limitProvider(provider: string, sandboxes: number | null, options: OperateOptions): Promise<Change<ProviderLimitSet> & { readonly configured: number }> {
    const limit = sandboxes === null ? null : parseInput(limitSchema, sandboxes, 'limit')
    const saying = sayingOf(options, 'limitProvider', parseInput(providerSchema, provider, 'provider'))
    return await this.use(async (connected) => {
      const said = (await connected.operators.limit(provider, limit, saying)) ?? (await this.noProvider(connected, provider))
      return { ...(await changeOf(connected, said, 'limit')), configured: said.configured }
    })
  }

  /**
   * A tenant's waiting jobs wait on, with that reason; those that run go on.
   * @param options.isNew also for a tenant that has no jobs, account or share yet.
   */
  async pauseTenant(tenant: string, options: OperateOptions & { readonly isNew?: boolean | undefined }): Promise<Change<OperatorWord>> {
    const name = parseInput(tenantSchema, tenant, 'tenant')
    const saying = sayingOf(options, 'pauseTenant', name)
    return await this.ofTenant(name, 'pause', async ({ operators }) => await operators.pauseTenant(name, true, saying, options.isNew ?? false))
  }

  async resumeTenant(tenant: string, options: Pick<OperateOptions, 'by'>): Promise<Change<OperatorWord>> {
    const name = parseInput(tenantSchema, tenant, 'tenant')
    const saying = sayingOf(options, 'resumeTenant', name)
    return await this.ofTenant(name, 'pause', async ({ operators }) => await operators.pauseTenant(name, false, saying))
  }

  /**
   * Another share of the places than the configured one.
   * @param share null for the configured one again.
   */
  async shareTenant(tenant: string, share: { readonly weight: number; readonly cap?: number | undefined } | null, options: OperateOptions & { readonly isNew?: boolean | undefined }): Promise<Change<TenantShareSet>> {
    const name = parseInput(tenantSchema, tenant, 'tenant')
    const wanted = share === null ? null : parseInput(shareSchema, share, 'share')
    const saying = sayingOf(options, 'shareTenant', name)
    return await this.ofTenant(name, 'share', async ({ operators }) => await operators.shareTenant(name, wanted, saying, options.isNew ?? false))
  }

  /** Tenants that have jobs, or had until lately, and those of whom operators have said something; by name, 10,000 at most. */
  async tenants(): Promise<TenantStanding[]> {
    return await this.use(async ({ redis, operators }) => {
      const found = new Map<string, TenantStanding>()
      let cursor: string | null = '0'
      do {
        const page: Awaited<ReturnType<typeof tenantLoads>> = await tenantLoads(redis, this.keys, cursor)
        for (const each of page.tenants) found.set(each.tenant, each)
        cursor = page.cursor
      } while (cursor !== null && found.size < mostTenants)
      const said = [...(await operators.tenants()).keys()].filter((name) => !found.has(name))
      if (said.length > 0) for (const each of (await tenantLoads(redis, this.keys, said)).tenants) found.set(each.tenant, each)
      return [...found.values()].sort((a, b) => (a.tenant < b.tenant ? -1 : 1))
    })
  }

  /** Who did what, the newest first. @param options.before an entry's id. @throws InvalidInputError, RedisUnavailableError. */
  async auditLog(options: { readonly limit?: number | undefined; readonly before?: string | undefined } = {}): Promise<KeptAuditEntry[]> {
    const { limit, before } = parseInput(auditSchema, options, 'audit log')
    return await this.use(({ redis }) => readAudit(redis, this.keys, before ?? null, limit))
  }

  /**
   * No job of this queue is begun or gone on with; those that run go on. It is BullMQ's own pause, so that its board shows it and can resume it too; when its
   * time is over a consumer of the queue does.
   */
  async pauseQueue(options: OperateOptions): Promise<Change<OperatorWord>> {
    return await this.setQueuePause(true, options)
  }

  async resumeQueue(options: Pick<OperateOptions, 'by'>): Promise<Change<OperatorWord>> {
    return await this.setQueuePause(false, options)
  }

  /** Whether the queue is paused, by whom as far as that is known, and how many jobs stand where in BullMQ. */
  async queue(): Promise<{ readonly name: string; readonly paused: boolean; readonly pause: OperatorWord | null; readonly counts: { readonly waiting: number; readonly delayed: number; readonly active: number } }> {
    return await this.use(async ({ queue, operators }) => {
      const [paused, pause, { prioritized = 0, waiting = 0, delayed = 0, active = 0 }] = await Promise.all([queue.isPaused(), operators.queuePause(), queue.getJobCounts('prioritized', 'waiting', 'delayed', 'active')])
      return { name: queue.name, paused, pause: paused ? pause : null, counts: { waiting: prioritized + waiting, delayed, active } }
    })
  }

  /**
   * A consumer hands its jobs over and stops, as on SIGTERM. What starts it again, such as Kubernetes, will do so.
   * @param consumer its id, or the beginning of it.
   */
  async drainConsumer(consumer: string, options: Pick<OperateOptions, 'by' | 'reason'>): Promise<{ readonly consumer: string; readonly changed: boolean }> {
    const { by, reason = null } = parseInput(optionsSchema, options, 'options')
    parseInput(consumerSchema, consumer, 'consumer')
    return await this.use(async ({ roster, redis }) => {
      const live = await roster.live()
      const exact = live.filter((each) => each.consumer === consumer)
      const found = exact.length > 0 ? exact : live.filter((each) => consumer.length >= 4 && (each.consumer.startsWith(consumer) || each.consumer.startsWith(`consumer-${consumer}`)))
      const [one, another] = found
      if (one === undefined) throw new UnknownNameError('consumer', consumer, live.map((each) => each.consumer), '"switchyard consumers" lists those that are live')
      if (another !== undefined) throw new InvalidInputError(`consumer: "${consumer}" is the beginning of ${counted(found.length, 'id')}; give more of it`)
      if (!one.heeds.includes('leave' satisfies Heeded)) throw new InvalidInputError(`consumer: ${one.consumer} is of release ${one.release}, which does not heed this; send its process SIGTERM`)
      if (one.draining) return { consumer: one.consumer, changed: false }
      await askToLeave(redis, this.keys, one.consumer, { by: shownName(by), reason })
      await appendAudit(redis, this.keys, { ...entryOf(by, 'drainConsumer', [one.consumer]), before: { draining: false }, after: { draining: true, reason } })
      return { consumer: one.consumer, changed: true }
    })
  }

  /**
   * Runs all ended jobs again that a filter finds; without a state the failed ones. What fails for one is told, and the others go on.
   * @throws InvalidInputError for a state that has not ended, or a limit that can't be; RedisUnavailableError.
   */
  async retryJobs(filter: JobFilter, options: BulkOptions & RetryOptions & { readonly by: Operator }): Promise<BulkResult> {
    checkObject(filter, 'where')
    parseInput(optionsSchema, options, 'options')
    const { state = 'failed' } = filter
    if (state === 'waiting' || state === 'running' || state === 'parked') throw new InvalidInputError(`where: state: jobs that are ${state} can't be run again; give failed, cancelled or succeeded`)
    if (state === 'succeeded' && options.from === 'checkpoint') throw new InvalidInputError('where: state: jobs that have succeeded can’t go on from a checkpoint; leave out "from"')
    return await this.toMany('retryJobs', filter, [state], options, async (jobId, endedAtMs) => (await this.jobs.retry(jobId, { from: options.from }, { endedAtMs })) === 'retried')
  }

  /** Cancels all jobs that a filter finds; without a state those that have not ended: a parked one would go on some day. */
  async cancelJobs(filter: JobFilter, options: BulkOptions & { readonly by: Operator; readonly reason?: string | undefined }): Promise<BulkResult> {
    checkObject(filter, 'where')
    parseInput(optionsSchema, options, 'options')
    const { state } = filter
    if (state === 'succeeded' || state === 'failed' || state === 'cancelled') throw new InvalidInputError(`where: state: jobs that have ${state === 'cancelled' ? 'been cancelled' : state} have ended; give waiting, running or parked`)
    const reason = options.reason ?? `cancelled by ${shownName(options.by)}`
    const cancel = async (jobId: string) => (await this.jobs.cancel(jobId, reason)) !== 'ended'
    return await this.toMany('cancelJobs', filter, state === undefined ? ['waiting', 'running', 'parked'] : [state], options, state === 'waiting' ? (jobId) => this.jobs.cancelWaiting(jobId, reason) : cancel)
  }

  /**
   * Ends all jobs of this queue that wait, each as cancelled, with its result and its event: nobody waits for one that is gone. Those that run, and those that
   * wait to be gone on with, go on.
   */
  async drainQueue(options: BulkOptions & { readonly by: Operator; readonly reason?: string | undefined }): Promise<BulkResult> {
    parseInput(optionsSchema, options, 'options')
    const reason = options.reason ?? `the queue was drained by ${shownName(options.by)}`
    return await this.toMany('drainQueue', {}, ['waiting'], { ...options, limit: options.limit ?? mostBulk }, (jobId) => this.jobs.cancelWaiting(jobId, reason))
  }

  private async toMany(action: string, filter: JobFilter, states: Parameters<typeof toMany>[3], options: BulkOptions & { readonly by: Operator }, work: Parameters<typeof toMany>[5]): Promise<BulkResult> {
    const by = parseInput(optionsSchema, options, 'options').by
    let interrupted: BulkInterruptedError | undefined
    const done = await toMany(action, (page) => this.jobs.list(page), filter, states, options, work).catch((error: unknown) => {
      if (!(error instanceof BulkInterruptedError)) throw error
      interrupted = error
      return error.result
    })
    if (options.dryRun !== true && done.jobIds.length > 0) {
      await this.audit(by, action, done.jobIds, { after: { where: filter, done: done.jobIds.length, failed: done.failed.length } }).catch((error: unknown) => {
        // Whoever asked learns what was done all the same.
        throw interrupted ?? (error instanceof RedisUnavailableError ? new BulkInterruptedError(action, done, error, true) : error)
      })
    }
    if (interrupted !== undefined) throw interrupted
    return done
  }

  /** Notes in the audit log what was done by other means than these. */
  async audit(by: Operator, action: string, targets: readonly string[], change: { readonly before?: unknown; readonly after?: unknown } = {}): Promise<void> {
    parseInput(notedSchema, { by, action, targets }, 'audit entry')
    await this.use(({ redis }) => appendAudit(redis, this.keys, { ...entryOf(by, action, targets), ...change }))
  }

  private async setQueuePause(paused: boolean, options: OperateOptions): Promise<Change<OperatorWord>> {
    const { by, reason = null, forMs } = parseInput(optionsSchema, options, 'options')
    return await this.use(async ({ queue, operators, redis }) => {
      const [wasPaused, known, atMs] = await Promise.all([queue.isPaused(), operators.queuePause(), redisNowMs(redis, this.keys)])
      const before = wasPaused ? (known ?? { by: 'somebody, by BullMQ', reason: null, atMs, untilMs: null }) : null
      // Said again, it holds for another time.
      const prolonged = paused && (forMs !== undefined || (before?.untilMs ?? null) !== null)
      if (wasPaused === paused && !prolonged) return { changed: false, before, after: before, ignoredBy: [] }
      const after = paused ? { by: shownName(by), reason, atMs, untilMs: forMs === undefined ? null : atMs + forMs } : null
      if (!paused) await queue.resume()
      await operators.pauseQueue(after, before, entryOf(by, paused ? 'pauseQueue' : 'resumeQueue', [queue.name]))
      return { changed: true, before, after, ignoredBy: [] }
    })
  }

  private async ofProvider<Word>(provider: string, what: Heeded, say: (connected: Connected) => Promise<Said<Word> | null>): Promise<Change<Word>> {
    return await this.use(async (connected) => await changeOf(connected, (await say(connected)) ?? (await this.noProvider(connected, provider)), what))
  }

  private async noProvider({ ledger }: Connected, provider: string): Promise<never> {
    const known = (await ledger.loads()).map((load) => load.provider)
    throw new UnknownNameError('provider', provider, known, known.length === 0 ? 'no consumer has asked for a place at a provider yet' : `known are: ${known.join(', ')}`)
  }

  private async ofTenant<Word>(tenant: string, what: Heeded, say: (connected: Connected) => Promise<Said<Word> | 'unknown' | 'full'>): Promise<Change<Word>> {
    return await this.use(async (connected) => {
      const said = await say(connected)
      if (said === 'full') throw new InvalidInputError(`tenant: operators have paused or given shares to ${counted(mostOperatedTenants, 'tenant')} already; take some back, or configure "tenants"`)
      if (said === 'unknown') throw new UnknownNameError('tenant', tenant, await someTenants(connected, this.keys), 'no job of it waits or runs, or did so lately, and no share is configured for it; say that it is new if it is')
      return await changeOf(connected, said, what)
    })
  }
}

const mostTenants = 10_000

/** How many tenants are looked at for the hint. */
const mostHinted = 5_000

async function someTenants({ redis }: Connected, keys: Keys): Promise<string[]> {
  const names = new Set((await redis.hkeys(`${keys.ready()}:set`)).concat(await redis.hkeys(`${keys.ready()}:shares`)))
  let cursor = '0'
  do {
    const [next, found] = await redis.hscan(`${keys.ready()}:tenant`, cursor, 'COUNT', 500)
    found.forEach((name, index) => index % 2 === 0 && names.add(name))
    cursor = next
  } while (cursor !== '0' && names.size < mostHinted)
  return [...names].filter((name) => name !== '' && name !== '*')
}

async function changeOf<Word>({ roster }: Connected, { outcome, before, after }: Said<Word>, what: Heeded): Promise<Change<Word>> {
  return { changed: outcome === 'changed', before, after, ignoredBy: ignoring(await roster.live(), what) }
}

/** Consumers that do not heed it. */
export function ignoring(consumers: readonly Pick<LiveConsumer, 'consumer' | 'heeds'>[], what: Heeded): string[] {
  return consumers.filter(({ heeds }) => !heeds.includes(what)).map(({ consumer }) => consumer)
}

export function entryOf({ id, name }: Operator, action: string, targets: readonly string[]): AuditEntry {
  return { by: id, name, action, targets: targets.slice(0, 20), count: targets.length, status: 200 }
}

/** @throws InvalidInputError. */
export function checkOperator(by: unknown): void {
  parseInput(operatorSchema, by, 'by')
}

export function shownName({ id, name }: Operator): string {
  return name === '' ? id : name
}

function sayingOf(options: OperateOptions, action: string, target: string): Saying {
  const { by, reason, forMs } = parseInput(optionsSchema, options, 'options')
  return { by: shownName(by), reason, forMs, audit: entryOf(by, action, [target]) }
}
