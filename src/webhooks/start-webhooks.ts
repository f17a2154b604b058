import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { Agent } from 'undici'
import type { z } from 'zod'
import { hookIn } from '../events/job-event.js'
import { type EventKind, type JobEvent, type Subscription } from '../events/index.js'
import { PutOffError, type Reading, RetryLaterError, subscribeEntries, UnwantedError } from '../events/subscription.js'
import { errorMessage } from '../job/errors.js'
import { maxJobWebhooks } from '../job/event-kinds.js'
import { parseInput } from '../job/explain.js'
import { measureRedis } from '../telemetry/measure-redis.js'
import { noMetrics, type Metrics } from '../telemetry/metrics.js'
import { createRedis, DeliveryLog, EventGroup, eventGroups, Keys, type RedisConfig } from '../store/index.js'
import { addressesAllowed } from './addresses.js'
import { guardedAgent, type ResolveHost, resolveBySystem } from './guarded-agent.js'
import { endpointGroup, isEndpointGroup, jobGroup } from './groups.js'
import { post } from './post.js'
import { deliveryAttempts, waitAfter } from './retry-schedule.js'
import { type WebhookSettings, webhookSettingsSchema } from './settings.js'
import { SlowReceivers } from './slow-receivers.js'
import { headerId, signedHeaders, signersOf, type SigningSecrets } from './signing.js'

const defaultTimeoutMs = 10_000
/** How often it is looked whether a job has named a webhook for the first time, in milliseconds. */
const lookMs = 1_000
const defaultForgetAfterMs = 7 * 86_400_000
const longestForgetLookMs = 60_000

export interface WebhooksOptions extends Partial<z.input<typeof webhookSettingsSchema>> {
  readonly redis: RedisConfig
  /** The deployment's prefix. */
  readonly prefix?: string | undefined
  /** Where the values of signing secrets are, by the names that endpoints have, and those of `secrets`. */
  readonly signingSecrets: SigningSecrets
  readonly log: Logger
  /** Where deliveries are measured. Default: nowhere. */
  readonly metrics?: Metrics | undefined
  /** How names are resolved. Default: as every program here does. */
  readonly resolve?: ResolveHost | undefined
  /** How long an event waits after its n-th failed attempt, in milliseconds. Default: see `waitAfter`. */
  readonly backoffMs?: ((attempt: number) => number) | undefined
  /** How long an attempt may take in all. Default 10,000 ms. */
  readonly timeoutMs?: number | undefined
  /** After how long the group of readers of an endpoint that is configured nowhere any more is removed, in milliseconds. Default 7 days. */
  readonly forgetAfterMs?: number | undefined
  /** The clock of signatures; milliseconds since 1970. */
  readonly now?: (() => number) | undefined
}

export interface Webhooks {
  /** Ends: what is being delivered is waited for, the rest comes to other deliverers, or later. */
  close(): Promise<void>
}

/**
 * Delivers events to webhooks: those of a deployment (`endpoints`), and those that jobs name. Each receiver is one more group of readers of the
 * deployment's events, with their attempts, their order per job and their dead letters, which `AgentQueue.events` and `switchyard events` show and
 * give back: `webhook:NAME` for an endpoint, and `webhook-of-jobs:N` for the N-th webhook of every job. So any number of processes may deliver.
 *
 *   an event ──► delivered (2xx) ──► the next of its job
 *      │ ▲              ▲
 *      ▼ │ 24 times     │ given back
 *   failed ──► dead ────┴──► the next of its job
 *
 * A receiver that answers 410 (Gone) wants no more: an endpoint is sent nothing until it is resumed, or has another URL; a job's own webhook gives that
 * event up at once.
 * @throws InvalidInputError when an option is wrong.
 */
export function startWebhooks(options: WebhooksOptions): Webhooks {
  return new Deliverer(options)
}

/** @throws InvalidInputError with a sentence for every problem. */
export function checkWebhookSettings({ endpoints, secrets, allowNetworks, concurrency, deliver }: Partial<z.input<typeof webhookSettingsSchema>>): WebhookSettings {
  return parseInput(webhookSettingsSchema, { endpoints, secrets, allowNetworks, concurrency, deliver }, 'webhooks')
}

/** Where an event goes, and who signs it. */
interface Target {
  readonly url: string
  readonly secretName: string
}

class Deliverer implements Webhooks {
  readonly #settings: WebhookSettings
  readonly #subscriptions: Subscription[] = []
  readonly #keys: Keys
  readonly #redis
  readonly #deliveries: DeliveryLog
  readonly #agent: Agent
  readonly #ofJobs: ReadonlySet<string>
  readonly #timer: NodeJS.Timeout
  readonly #forgetTimer: NodeJS.Timeout
  /** How groups that nobody here reads stood when they were looked at last. */
  readonly #unread = new Map<string, string>()
  readonly #timeoutMs: number
  readonly #metrics: Metrics
  /** How many groups of jobs' webhooks are read. */
  #jobGroups = 0
  #closed: Promise<void> | undefined

  constructor(private readonly options: WebhooksOptions) {
    const { redis, prefix, resolve = resolveBySystem, timeoutMs = defaultTimeoutMs, metrics = noMetrics } = options
    this.#metrics = metrics
    this.#settings = checkWebhookSettings(options)
    this.#timeoutMs = timeoutMs
    this.#keys = new Keys(prefix)
    this.#ofJobs = new Set(this.#settings.secrets)
    this.#agent = guardedAgent(addressesAllowed(this.#settings.allowNetworks), resolve, timeoutMs)
    this.#redis = createRedis(redis, 'commands')
    measureRedis(this.#redis, this.#metrics)
    for (const outcome of ['ok', 'error']) this.#metrics.declare('switchyard.webhook.duration', [outcome])
    this.#deliveries = new DeliveryLog(this.#redis, this.#keys)
    for (const { name, url, events, secretName } of this.#settings.endpoints) {
      this.#read(endpointGroup(name), { kinds: [...new Set<EventKind>(events)] }, 'now', () => ({ url, secretName }), receiverOf(url))
    }
    this.#timer = setInterval(() => void this.#lookForJobs(), lookMs)
    void this.#lookForJobs()
    this.#forgetTimer = setInterval(() => void this.#forgetRemoved(), Math.min((options.forgetAfterMs ?? defaultForgetAfterMs) / 20, longestForgetLookMs))
  }

  async close(): Promise<void> {
    await (this.#closed ??= this.#close())
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer)
    clearInterval(this.#forgetTimer)
    // A Redis that is away is not waited for; what was under way comes again.
    if (this.#redis.status === 'ready') this.#redis.once('close', () => this.#redis.disconnect())
    else this.#redis.disconnect()
    await Promise.all(this.#subscriptions.splice(0).map((subscription) => subscription.close()))
    await this.#agent.close()
    this.#redis.disconnect()
  }

  /** Most deployments have no job with webhooks: their groups, which cost something with every event, are read once there is one. */
  async #lookForJobs(): Promise<void> {
    try {
      const wanted = Math.min(maxJobWebhooks, await this.#deliveries.jobWebhooks())
      if (this.#closed !== undefined) return
      for (; this.#jobGroups < wanted; this.#jobGroups++) {
        const n = this.#jobGroups
        this.#read(jobGroup(n), { hook: n }, 'start', (json) => {
          const { url, secret } = hookIn(json, n)
          return { url, secretName: secret }
        })
      }
      if (this.#jobGroups === maxJobWebhooks) clearInterval(this.#timer)
    } catch (error) {
      if (this.#closed === undefined) this.options.log.warn({ message: errorMessage(error) }, 'webhooks of jobs not looked for; tried again')
    }
  }

  /** The groups of endpoints that are in no configuration any more: nobody has read them for long, not a deliverer of an earlier release either, nor since the last look. */
  async #forgetRemoved(): Promise<void> {
    const { forgetAfterMs = defaultForgetAfterMs, log } = this.options
    const own = new Set(this.#settings.endpoints.map(({ name }) => endpointGroup(name)))
    try {
      for (const { group } of await eventGroups(this.#redis, this.#keys)) {
        if (!isEndpointGroup(group) || own.has(group)) continue
        const removed = new EventGroup(this.#redis, this.#keys, group)
        const clock = await removed.clock()
        const before = this.#unread.get(group)
        if (clock === null || before !== clock) {
          if (clock !== null) this.#unread.set(group, clock)
          continue
        }
        if (!(await removed.removeUnread(clock, forgetAfterMs))) continue
        this.#unread.delete(group)
        log.info({ group }, 'the readers of a webhook that is not configured any more were removed')
      }
    } catch (error) {
      if (this.#closed === undefined) log.warn({ message: errorMessage(error) }, 'webhooks that are configured no more not looked for; tried again')
    }
  }

  #read(group: string, wanted: Reading['wanted'], from: 'now' | 'start', targetOf: (json: string) => Target, receiver?: string): void {
    const { redis, prefix, log, backoffMs = (attempt: number) => waitAfter(attempt, Math.random()) } = this.options
    // An endpoint has its places for itself.
    const slow = isEndpointGroup(group) ? undefined : new SlowReceivers(this.#settings.concurrency, () => performance.now())
    this.#subscriptions.push(
      subscribeEntries(
        redis,
        group,
        (event, entry) => this.#inTurn(slow, event, entry, targetOf, (target) => this.#deliver(group, event, entry, target)),
        {
          prefix,
          from,
          concurrency: this.#settings.concurrency,
          attempts: deliveryAttempts,
          onError: (error) => log.debug({ group, message: errorMessage(error) }, 'webhook'),
          onDead: (event, error) => log.error({ group, event: event?.id, message: errorMessage(error) }, 'an event was given up by its webhook; "switchyard events redeliver" gives it back'),
          onTrimmed: ({ data }) => log.error({ group, ...data }, 'events were removed before their webhook had them; keep more (consumer.events)'),
        },
        { wanted, backoffMs, receiver, onConnection: (connection) => measureRedis(connection, this.#metrics) },
      ),
    )
  }

  /** @throws PutOffError while too many are under way to a receiver that is slow, or to those of its tenant. */
  async #inTurn(slow: SlowReceivers | undefined, { data }: JobEvent, { json }: { json: string }, targetOf: (json: string) => Target, deliver: (target: Target) => Promise<void>): Promise<void> {
    const target = targetOf(json)
    if (slow === undefined) {
      await deliver(target)
      return
    }
    const keys = [`to ${new URL(target.url).origin}`, ...(data.tenant === null ? [] : [`of ${data.tenant}`])]
    const waitMs = slow.putOffMs(keys)
    if (waitMs > 0) throw new PutOffError(waitMs)
    const end = slow.begin(keys)
    try {
      await deliver(target)
    } finally {
      end()
    }
  }

  /** @throws WebhookFailedError when it is to be tried again. */
  async #deliver(group: string, event: JobEvent, { id: sequence, attempt }: { id: string; attempt: number }, { url, secretName }: Target): Promise<void> {
    const { log, now = Date.now } = this.options
    const metrics = this.#metrics
    const startedAtMs = now()
    const body = JSON.stringify(event)
    const signers = signersOf(secretName, (name) => this.#secret(group, name))
    const headers = signedHeaders(signers, headerId(event.id), body, startedAtMs)
    const delivered = await post({ url, headers, body }, { dispatcher: this.#agent, timeoutMs: this.#timeoutMs, nowMs: startedAtMs })
    const entry = { group, sequence, event: event.id, type: event.type, to: new URL(url).origin, attempt, status: delivered.status, durationMs: Math.max(0, now() - startedAtMs), atMs: startedAtMs, error: delivered.ok ? '' : delivered.why }
    metrics.observe('switchyard.webhook.duration', [delivered.ok ? 'ok' : 'error'], entry.durationMs / 1000)
    const writtenAtMs = Number(sequence.split('-')[0])
    if (delivered.ok && Number.isFinite(writtenAtMs)) metrics.observe('switchyard.webhook.lag', [], (now() - writtenAtMs) / 1000)
    // What only shows it is not worth a second delivery.
    await this.#deliveries.add(entry).catch((error: unknown) => log.debug({ group, message: errorMessage(error) }, 'a delivery was not noted'))
    if (delivered.ok) return
    if (delivered.status === 410) {
      const ofEndpoint = isEndpointGroup(group)
      if (ofEndpoint) log.error({ group, event: event.id, message: delivered.why }, 'a webhook wants no more events (410 Gone): it is sent none until "switchyard events resume", or until it has another URL')
      throw new WebhookGoneError(`${delivered.why} (Gone)`, ofEndpoint ? 'all' : 'event')
    }
    log.warn({ group, event: event.id, attempt, status: delivered.status, message: delivered.why }, 'an event was not delivered; tried again later')
    throw new WebhookFailedError(delivered.why, delivered.retryAfterMs)
  }

  /** Jobs reach those secrets alone that are named for them. */
  #secret(group: string, name: string): string | undefined {
    if (isEndpointGroup(group) || this.#ofJobs.has(name)) return this.options.signingSecrets(name)
    return undefined
  }
}

/** What stands for a URL where only its receiver should know it. */
function receiverOf(url: string): string {
  return createHash('sha256').update(url).digest('hex').slice(0, 16)
}

/** A receiver said that it wants no more. */
class WebhookGoneError extends UnwantedError {
  override readonly name = 'WebhookGoneError'
  override readonly code = 'SWY_WEBHOOK_FAILED'
}

/** A receiver did not take an event. */
export class WebhookFailedError extends RetryLaterError {
  override readonly name = 'WebhookFailedError'
  override readonly code = 'SWY_WEBHOOK_FAILED'
}
