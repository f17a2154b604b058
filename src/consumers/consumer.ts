import { Job } from 'bullmq'
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { withBreaker } from '../git/breaker.js'
import type { ArtifactStore } from '../artifacts/index.js'
import type { GitHost } from '../git/host.js'
import { TemporaryRepository } from '../git/temporary-repository.js'
import { checkKinds } from '../events/index.js'
import { toMicros } from '../job/cost.js'
import { InvalidInputError, errorMessage } from '../job/errors.js'
import type { EventKind } from '../job/event-kinds.js'
import { createRunner } from '../runner/index.js'
import {
  BranchSchedule,
  Budgets,
  Inbox,
  Keys,
  ReadyJobs,
  Reaping,
  Roster,
  RunStore,
  Signals,
  SlotLedger,
  SlotOwners,
  defaultRetentionMs,
  type EventBounds,
  type RedisConfig,
  type TenantShare,
  isUnavailability,
  redisFacts,
  unavailable,
  WaitDeadlines,
  mendLocks,
} from '../store/index.js'
import { sweepBranches } from './reaping/branch-retention.js'
import { guardedPolicy } from './placing/candidates.js'
import { Announcer, defaultGraceMs } from './intake/announcer.js'
import { Intake } from './intake/intake.js'
import { steadyClock } from './steady-clock.js'
import { endOverdueWaits } from './supervision/overdue-waits.js'
import { LockKeeper } from './intake/lock-keeper.js'
import { connect } from './connections.js'
import { TakingWorker } from './intake/taking-worker.js'
import type { PlacementPolicy } from './placing/placement.js'
import { resumeQueue } from './intake/queue-pause.js'
import { Relisting } from './intake/relisting.js'
import { type EndingInNobodysHands, endRemoved, endStanding } from './ending/in-nobodys-hands.js'
import { EvictionWatch } from './eviction-watch.js'
import { Reaper, type ProviderListing } from './reaping/reaper.js'
import { checkArtifacts, checkGitHost, usableProviders } from './first-checks.js'
import { PeriodicChecks } from './periodic-checks.js'
import { Liveness, type StuckLoop } from './liveness.js'
import { readinessOf, type Readiness } from './readiness.js'
import { elapsedMs, type ConsumerContext } from './consumer-context.js'
import { DrainWatch } from './placing/drain-watch.js'
import type { ProviderSlot } from './placing/provider-slot.js'
import type { SecretSource } from './output/secrets.js'
import { KeyHealth } from './key-health.js'
import type { Provider } from '../providers/provider.js'
import { checkWebhookSettings, startWebhooks, type WebhooksOptions } from '../webhooks/index.js'
import { measureRedis } from '../telemetry/measure-redis.js'
import type { QueuedJob } from '../store/queued-job.js'
import { noMetrics, type Metrics } from '../telemetry/metrics.js'
import { declareMetrics } from './declared-metrics.js'
import { release } from './release.js'
import { consumerSettingsSchema, type ConsumerSettings } from './settings.js'
import { ScheduleWatch } from './schedule-watch.js'
import { SlotWaits } from './placing/slot-waits.js'
import { SandboxAnswers } from './placing/sandbox-answers.js'
import { StartReports } from './placing/start-reports.js'

export interface ConsumerOptions {
  /** Names this deployment in the tags of its sandboxes; all its consumers say the same. */
  readonly deployment: string
  readonly redis: RedisConfig
  readonly queue?: { readonly name?: string | undefined; readonly prefix?: string | undefined }
  readonly git: GitHost
  /** Where the files go that jobs name as artifacts. Left out: they are listed as missed. */
  readonly artifacts?: ArtifactStore | undefined
  readonly providers: readonly ProviderSlot[]
  /** How to choose among providers with room. Default `most-free`. */
  readonly policy?: PlacementPolicy | undefined
  /**
   * What the providers' prices are in, by whose days costs are counted, and what tenants' sandboxes may cost a day, `*` for each that is not named. Default
   * USD, UTC and no budget.
   */
  readonly costs?: { readonly currency?: string | undefined; readonly timeZone?: string | undefined; readonly budgets?: Readonly<Record<string, number>> | undefined } | undefined
  /** How tenants share the places; `*` stands for all that are not named. All consumers say the same. */
  readonly tenants?: Readonly<Record<string, TenantShare>> | undefined
  /** Where the values of the secrets are that jobs name; `secretsFromEnvironment` reads this process's environment. */
  readonly secrets: SecretSource
  readonly log: Logger
  /** Where it measures: `PrometheusMetrics` of `switchyard/monitor`. Default: nowhere. */
  readonly metrics?: Metrics | undefined
  readonly settings?: Partial<ConsumerSettings> | undefined
  /** How long ended jobs are kept, in milliseconds. Default 7 days. */
  readonly retentionMs?: number | undefined
  /** What the stream of completion events keeps. Default: 100,000 events, 256 MiB, 7 days. */
  readonly events?: EventBounds | undefined
  /** What is told of every job besides its end; the producers' is to be the same. Default: nothing, unless the job asks. */
  readonly eventTypes?: readonly EventKind[] | undefined
  /** Delivers webhooks beside its jobs; what their endpoints want is to be in `eventTypes`. Default: it does not. */
  readonly webhooks?: Omit<WebhooksOptions, 'redis' | 'prefix' | 'log' | 'metrics'> | undefined
  /** Told what each provider's listing showed, by the consumer that made it. */
  readonly onListing?: ((listing: ProviderListing) => void) | undefined
  /** An operator wants this consumer to hand its jobs over and stop. Default: it calls `stop()`; whoever has a process to end does so as well. */
  readonly onLeave?: (() => void) | undefined
  /** The clock; milliseconds since 1970. */
  readonly now?: (() => number) | undefined
}

/**
 * A process's consumer: takes jobs as places become free and supervises many of them at once.
 *
 *   created ──start()──► running ──stop()──► stopping (hands its jobs over) ──► stopped
 */
export class Consumer {
  /** Unique among all consumers; holds leases and the inbox. */
  readonly id = `consumer-${randomUUID()}`
  private stopParts: (() => Promise<void>) | undefined
  private watched: { readonly liveness: Liveness; readonly readiness: () => Promise<Readiness> } | undefined
  private draining = false
  private starting: Promise<void> | undefined
  private readonly stopped = new AbortController()

  constructor(private readonly options: ConsumerOptions) {}

  /**
   * Checks Redis, the git host's and the providers' configuration and begins to take jobs.
   * One that did not start has left nothing behind, and may be started again. Where `stop` is called meanwhile it resolves, and nothing was begun, or has been stopped.
   * @throws InvalidInputError for a setting that can't work, RedisUnavailableError, or InfrastructureError when no provider is usable.
   */
  async start(): Promise<void> {
    if (this.stopParts !== undefined || this.starting !== undefined) throw new InvalidInputError('consumer: was started already; create another one')
    this.starting = this.begin()
    try {
      await this.starting
    } catch (error) {
      if (!this.stopped.signal.aborted || error !== this.stopped.signal.reason) throw error
    } finally {
      this.starting = undefined
    }
  }

  private async begin(): Promise<void> {
    const { options } = this
    const settings = consumerSettingsSchema.parse(options.settings ?? {})
    if (options.webhooks !== undefined) checkWebhookSettings(options.webhooks)
    const log = options.log.child({ consumer: this.id })
    // A day is longer than any transfer takes.
    await TemporaryRepository.removeLeftovers(Date.now() - 86_400_000).catch((error: unknown) => log.warn({ message: errorMessage(error) }, 'folders that killed consumers left were not removed'))
    const leaving = new AbortController()
    const now = options.now ?? steadyClock()
    let onKeys = () => {}
    const provider = (name: string): Provider => {
      const slot = options.providers.find((each) => each.provider.name === name)
      if (slot === undefined) throw new Error(`there is no provider ${name}`)
      return slot.provider
    }
    const health = new KeyHealth({
      check: async (of, signal) => await ('git' in of ? options.git : provider(of.provider)).check({ timeoutMs: settings.callTimeoutMs, signal }),
      probeMs: Math.ceil((settings.leaseMs * 2) / 3),
      onChange: () => onKeys(),
      log,
      now,
    })
    const firstCheck = { timeoutMs: settings.callTimeoutMs, signal: leaving.signal, log }
    const gitChecked = checkGitHost(options.git, health, firstCheck)
    const providers = await usableProviders(options.providers, health, firstCheck).catch((error: unknown) => {
      leaving.abort()
      health.stop()
      throw error
    })
    void checkArtifacts(options.artifacts, firstCheck)

    const keys = new Keys(options.queue?.prefix, options.queue?.name)
    const { redis, blocking, subscriber, disconnect } = await connect(options.redis, keys, this.stopped.signal).catch((error: unknown) => {
      leaving.abort()
      health.stop()
      throw error
    })

    const { metrics = noMetrics } = options
    measureRedis(redis, metrics)
    declareMetrics(metrics, keys.queueName, options.providers.map(({ provider }) => provider.name))
    const liveness = new Liveness({ ping: () => redis.ping(), tickMs: Math.min(10_000, settings.stuckAfterMs / 10) })
    const watch = (loop: string, allowedMs: number) => {
      liveness.watch(loop, settings.stuckAfterMs + allowedMs)
      return () => liveness.cameRound(loop)
    }
    const storeOptions = { logMaxBytesPerStream: settings.maxLogBytes, now, events: options.events, retentionMs: options.retentionMs, timeZone: options.costs?.timeZone }
    const store = new RunStore(redis, keys, storeOptions)
    const ready = new ReadyJobs(redis, keys)
    const { currency = 'USD', timeZone = 'UTC', budgets: perDay = {} } = options.costs ?? {}
    const budgets = new Budgets(redis, keys, { timeZone, currency, now, configured: new Map(Object.entries(perDay).map(([tenant, amount]) => [tenant, toMicros(amount)])) })
    const ledger = new SlotLedger(redis, keys)
    const owners = new SlotOwners(redis, keys, ledger)
    const reaping = new Reaping(redis, keys, this.id)
    const sweep = { schedule: new BranchSchedule(redis, keys), reaping, git: options.git, callTimeoutMs: settings.callTimeoutMs, log, now }
    const reaper = new Reaper({
      deployment: options.deployment,
      store: new RunStore(redis, keys.ofRuns(), storeOptions),
      owners,
      reaping,
      sweep: (round) => sweepBranches(sweep, round),
      providers,
      callTimeoutMs: settings.callTimeoutMs,
      graceMs: settings.reapGraceMs,
      branchRetentionMs: settings.branchRetentionMs,
      eventTypes: options.eventTypes,
      intervalMs: settings.reapIntervalMs,
      metrics,
      // The gap between rounds, and what a page, a batch or the sweep's last call may take.
      onTurn: watch('reaper', 2 * settings.reapIntervalMs + 2 * settings.callTimeoutMs),
      onListing: async (listing) => {
        options.onListing?.(listing)
        // Believed for some rounds: longer than one that fails, shorter than what others do with the account lasts.
        await ledger.report(listing.provider, { kind: 'foreign', count: listing.foreign, forMs: 3 * settings.reapIntervalMs })
      },
      log,
      now,
    })
    const leaveBySelf = () => {
      if (options.onLeave === undefined) this.stop().catch((error: unknown) => log.error({ message: errorMessage(error) }, 'the consumer has left, and not all of it is closed'))
      else options.onLeave()
    }
    const announcer: Announcer = new Announcer({
      consumer: this.id,
      roster: new Roster(redis, keys),
      configured: () => ({ queue: keys.queueName, release, gitHosts: options.git.hosts, providers, secrets: options.secrets.names?.() ?? null }),
      policy: options.policy ?? 'most-free',
      health,
      full: () => intake.isFull(),
      running: () => intake.inHand,
      places: settings.maxJobs,
      shares: Object.keys(options.tenants ?? {}).length === 0 ? null : (options.tenants ?? null),
      leaseMs: settings.leaseMs,
      startedAtMs: now(),
      onTurn: watch('announcer', settings.leaseMs),
      onNewer: () => leaveBySelf(),
      onLost: () => metrics.add('cicd.system.errors', ['redis', 'lost-writes']),
      log,
    })
    const drains: DrainWatch = new DrainWatch({ ledger, providers: () => [...providers.keys()], isBusy: () => intake.inHand > 0, everyMs: Math.max(500, settings.leaseMs / 3), log })
    const context: ConsumerContext = {
      deployment: options.deployment,
      release,
      holder: this.id,
      store,
      ledger,
      ready,
      owners,
      reapSoon: (provider, delayMs) => reaper.soon(provider, delayMs),
      waits: new SlotWaits({
        askMs: settings.pollMs,
        renewMs: settings.leaseMs / 3,
        renew: (leaseIds) =>
          ledger.renew(this.id, leaseIds, settings.leaseMs).catch((error: unknown) => {
            log.warn({ message: errorMessage(error) }, 'jobs not kept in the line for places; tried again')
            return []
          }),
        elapsed: elapsedMs,
      }),
      starts: new StartReports((provider, startsMs) => ledger.report(provider, { kind: 'created', startsMs }), log),
      // A quiet command's sandbox is asked once in `readWaitMs`.
      answers: new SandboxAnswers((provider, report) => ledger.report(provider, report), log, now, settings.readWaitMs * 1.5),
      drains,
      git: withBreaker(options.git, { now }),
      artifacts: options.artifacts ?? null,
      providers,
      deploymentProviders: () => announcer.deploymentProviders(),
      liveness,
      metrics,
      queue: keys.queueName,
      keys: health,
      policy: guardedPolicy(options.policy ?? 'most-free', log),
      settings,
      log,
      now,
      currency,
      budgets,
      eventTypes: options.eventTypes === undefined ? undefined : checkKinds(options.eventTypes, 'eventTypes'),
      taker: () => intake.taker(),
      runnerFor: (provider, sandboxId, image) => createRunner({ provider, sandboxId, image }),
    }
    const worker = new TakingWorker(redis, keys, settings)
    worker.on('error', (error) => log.warn({ message: error.message }, 'queue connection'))
    const locks = new LockKeeper((ids, tokens) => worker.extendJobLocks(ids, tokens, settings.leaseMs), settings.leaseMs, log, undefined, watch('leases', settings.leaseMs))
    const signals = new Signals(subscriber, keys)
    const inbox = new Inbox({ blocking, commands: redis }, keys, this.id)
    const deadlines = new WaitDeadlines(redis, keys)
    const ending: EndingInNobodysHands = {
      metrics,
      store,
      ready,
      owners,
      onLiving: context.reapSoon,
      deployment: options.deployment,
      branchRetentionMs: settings.branchRetentionMs,
      now,
      eventTypes: options.eventTypes,
      getJob: (id) => Job.fromId<QueuedJob>(worker, id),
      readJobs: (jobIds) => worker.readJobs(jobIds),
    }
    const relisting = new Relisting({
      ready,
      log,
      now,
      everyMs: settings.pollMs,
      waits: deadlines,
      holder: this.id,
      readJobs: (jobIds) => worker.readJobs(jobIds),
      onGone: (jobId) => endRemoved(ending, jobId),
      onEnds: (jobId, how) => endStanding(ending, jobId, how),
      onPauseOver: () => resumeQueue(redis, keys, log),
    })
    const intake: Intake = new Intake({
      context,
      inbox,
      locks,
      secrets: options.secrets,
      announcer,
      graceMs: settings.unrunnableGraceMs ?? defaultGraceMs(settings.leaseMs),
      relisting,
      onLeave: ({ by, reason }) => {
        log.info({ by, reason }, 'an operator wants this consumer to leave')
        leaveBySelf()
      },
      takeJob: (token) => worker.takeJob(token),
      jobIn: (given, token) => worker.jobIn(given, token),
    })
    worker.on('stalled', () => intake.nudge())
    onKeys = () => void announcer.announce().then(() => intake.nudge())
    signals.onReconnect(() => {
      intake.nudge()
      void intake.cancels.heedAll()
    })
    const checks = new PeriodicChecks(log)
    checks.every(settings.leaseMs, 'requests to cancel not looked for; tried again', () => intake.cancels.heedAll())
    const watchBudgets = checks.every(Math.max(1_000, settings.leaseMs), 'budgets not looked at; tried again', async (againIn) => {
      // Those that a raised budget has more for come in parts.
      if (await budgets.watch()) againIn(1_000)
    })
    checks.every(Math.max(1_000, settings.leaseMs), 'locks not looked at; tried again', async () => {
      const mended = await mendLocks(redis, keys, { leaseMs: announcer.longestLeaseMs(), stallCheckMs: settings.stallCheckMs })
      if (mended > 0) log.warn({ mended }, 'Redis’ clock was set back: locks that would have lived for too long were shortened')
    })
    checks.every(Math.max(1_000, settings.leaseMs / 3), 'jobs that have waited for too long not looked for; tried again', async () => {
      await endOverdueWaits({ context, deadlines, whyIdle: () => intake.whyIdle(async () => (await redis.hexists(keys.bullmq('meta'), 'paused')) === 1) })
    })
    const eviction = new EvictionWatch(() => redisFacts(redis), () => metrics.add('cicd.system.errors', ['redis', 'evicts-keys']), log)
    checks.every(Math.max(1_000, 2 * settings.leaseMs), 'it was not looked at whether Redis drops keys; tried again', () => eviction.look())
    const schedules = new ScheduleWatch({ redis, keys, metrics, deployment: options.deployment, retentionMs: options.retentionMs ?? defaultRetentionMs, everyMs: Math.max(1_000, settings.stallCheckMs), log, onTurn: watch('schedules', settings.stallCheckMs), eventTypes: options.eventTypes })
    let webhooks: ReturnType<typeof startWebhooks> | null = null
    const leave = async () => {
      leaving.abort()
      liveness.stop()
      checks.stop()
      drains.stop()
      const orderly = (async () => {
        health.stop()
        void announcer.leave()
        await Promise.all([reaper.stop(), intake.stop(), schedules.stop(), gitChecked, webhooks?.close()])
        await announcer.stop()
        await context.starts.close()
        await context.answers.close()
        locks.stop()
        // By force: it has no jobs of its own to wait for, and a connection of its own that may never answer.
        await worker.close(true)
        await inbox.close()
      })()
      // Without Redis nothing can be handed over. After a lease the jobs are nobody's in any case, and are found as those of the dead are.
      const unsaid = await endsWithin(orderly, settings.leaseMs).then((ended) => (ended ? null : 'Redis did not answer'), errorMessage)
      if (unsaid !== null) log.warn({ message: unsaid }, 'Redis did not take all of the hand-over; the next consumer finds what is left when its leases run out')
      locks.stop()
      announcer.halt()
      // Its own connection is closed where that was not come to, and would keep the process up.
      void worker.close(true).catch(() => undefined)
      signals.close()
      disconnect()
    }
    try {
      await signals.onCancel((jobId) => void intake.cancels.heed(jobId))
      await signals.onTurnFree(() => relisting.turnIsFree())
      liveness.start()
      await watchBudgets()
      await announcer.start()
      await schedules.start()
      await worker.startStalledCheckTimer()
    } catch (error) {
      // Redis went away, or refuses writes, since it was looked at above.
      await leave()
      throw isUnavailability(error) ? unavailable(options.redis, error) : error
    }
    locks.start()
    intake.start()
    reaper.start()
    drains.start()
    if (options.webhooks !== undefined) webhooks = startWebhooks({ ...options.webhooks, redis: options.redis, prefix: options.queue?.prefix, metrics, log })
    log.info({ providers: [...providers.keys()] }, 'consumer started')
    this.watched = { liveness, readiness: () => readinessOf({ redis, providers: [...providers.keys()], health, draining: () => this.draining }) }
    this.stopParts = async () => {
      await leave()
      await Promise.all([...providers.values()].map(({ provider }) => provider.close()))
      log.info('consumer stopped')
    }
  }

  /**
   * Takes no more jobs, hands the ones under way to other consumers and closes. Their sandboxes go on. A call inside of an SDK that its
   * server never answers may keep the process up after that; `switchyard consume` then ends it two seconds later.
   */
  async stop(): Promise<void> {
    this.draining = true
    // One that starts takes jobs a moment later; where its Redis does not answer it need not find that out.
    this.stopped.abort(new Error('the consumer was stopped before it had started'))
    await this.starting?.catch(() => undefined)
    const stop = this.stopParts
    this.stopParts = () => Promise.resolve()
    await stop?.()
  }

  /**
   * The loops of it that are stuck, the longest first: for a liveness probe, which restarts it. None before it has started and once it stops. A Redis
   * that is away makes none stuck.
   */
  stuckLoops(): readonly StuckLoop[] {
    return this.watched?.liveness.stuck() ?? []
  }

  /** Whether it takes jobs: for a readiness probe, and before the next consumer of a rolling deploy is stopped. */
  async readiness(): Promise<Readiness> {
    return (await this.watched?.readiness()) ?? { ready: false, problems: ['it has not started yet'] }
  }
}

/** Whether `work` ends in time. @throws what it throws, in that time. */
async function endsWithin(work: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)))
  // What is cut off later fails, and nobody listens any more.
  work.catch(() => undefined)
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
