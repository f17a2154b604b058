import { InvalidInputError } from '../job/errors.js'
import { defaultQueueName, runIdOf } from '../job/names.js'

/** The prefix that every part of Switchyard uses unless configured otherwise. */
export const defaultPrefix = '{switchyard}'
export { defaultQueueName }

/**
 * The names of all keys that Switchyard keeps in Redis besides BullMQ's own.
 *
 * A prefix holds one hash tag, so that a Redis Cluster keeps everything of a deployment in one slot: each Lua script
 * touches several keys, and the slot ledger reaches keys (a provider's leases, a holder's inbox) that are known only
 * while it runs. A job's own keys begin with a queue's empty name: BullMQ names a job `<prefix>:<queue>:<job id>`, and a queue may be called `run`.
 */
export class Keys {
  /**
   * @param prefix the deployment's own, with exactly one hash tag, such as `{switchyard}`; BullMQ gets the same.
   * @param queueName what a wake-up and an idempotency key belong to; everything else is shared by a deployment's queues.
   * @throws InvalidInputError when the prefix holds no hash tag, or several, or goes on with "::" behind it.
   */
  constructor(
    readonly prefix: string = defaultPrefix,
    readonly queueName: string = defaultQueueName,
  ) {
    if (!/^[^{}]*\{[^{}]+\}[^{}]*$/.test(prefix)) {
      throw new InvalidInputError(`prefix: "${prefix}" must hold exactly one hash tag, such as "{switchyard}", so that a Redis Cluster keeps its keys together`)
    }
    if (/\}::/.test(prefix)) throw new InvalidInputError(`prefix: "${prefix}" must not go on with "::" behind its hash tag: keys of the deployment that has what stands before it do`)
  }

  /** A job of the queue among all queues; see `runIdOf`. */
  runId(jobId: string): string {
    return runIdOf(this.queueName, jobId)
  }

  /** The keys for who knows jobs by their ids among all queues only. */
  ofRuns(): Keys {
    return new KeysOfRuns(this.prefix, this.queueName)
  }

  /** Hash: a job's run record, fence, cancel request and result. */
  run(jobId: string): string {
    return `${this.prefix}::run:${this.runId(jobId)}`
  }

  /** Stream: a job's output. */
  log(jobId: string): string {
    return `${this.prefix}::log:${this.runId(jobId)}`
  }

  /** Hash: how much of each step's output is in the log stream. The lists of what may be dropped stand behind it. */
  logAccount(jobId: string): string {
    return `${this.prefix}::log-account:${this.runId(jobId)}`
  }

  /** String: the beginning of what a job has changed, for its page. */
  patch(jobId: string): string {
    return `${this.prefix}::patch:${this.runId(jobId)}`
  }

  /** String: the spec that an idempotency key stands for. */
  claim(jobId: string): string {
    return `${this.prefix}::claim:${this.runId(jobId)}`
  }

  /** Hash: an API key, without what it opens with. */
  apiKey(id: string): string {
    return `${this.prefix}::api-key:${id}`
  }

  /** Sorted set: the ids of the API keys, by when each is forgotten. */
  apiKeys(): string {
    return `${this.prefix}::api-keys`
  }

  /** Hash: the answer to a request that bears an idempotency key; see lua/answer-begin.lua. */
  httpAnswer(key: string): string {
    return `${this.prefix}::http-answer:${key}`
  }

  /** What the keys of the HTTP API's rate limits begin with. */
  httpRates(): string {
    return `${this.prefix}::http-rate`
  }

  /** Stream: who did what by the HTTP API. */
  audit(): string {
    return `${this.prefix}::audit`
  }

  /** Stream: completion events. */
  events(): string {
    return `${this.prefix}:events`
  }

  /** Hash: how many completion events there were, and their bounds; see lua/event-append.lua. */
  eventAccount(): string {
    return `${this.prefix}::events:account`
  }

  /** Stream: the last attempts to deliver events to webhooks. */
  deliveries(): string {
    return `${this.prefix}::events:deliveries`
  }

  /** What a group of their readers has read and not done with, and its dead letters; see lua/event-group.lua. */
  eventGroup(group: string): string[] {
    const parts = ['group', 'due', 'state', 'next', 'tail', 'body', 'dead']
    return parts.map((part) => `${this.prefix}::events:${part}:${group}`)
  }

  /** Set: the names of all providers that have ever been asked for a place. Every other key of the ledger starts with it. */
  ledger(): string {
    return `${this.prefix}:ledger`
  }

  /** String: how everything here is laid out; see `layout`. */
  layout(): string {
    return `${this.prefix}::layout`
  }

  /** Hashes of a queue's jobs that wait, or are in hand, of releases from before that was said. No later one has a hash there. */
  unsaidLayout(): string[] {
    return ['of', 'held'].map((part) => `${this.ready()}:${this.queueName}:${part}`)
  }

  /** Sorted set: the live consumers, by when they are believed no longer. What they say stands behind it. */
  consumers(): string {
    return `${this.prefix}:consumers`
  }

  /** Hash: who reaps at a provider now, and what its last round left to do. */
  reaping(provider: string): string {
    return `${this.prefix}:reaping:${provider}`
  }

  /** What sandboxes have cost: every key of it begins with this; see lua/costs.lua. */
  costs(): string {
    return `${this.prefix}::costs`
  }

  /** Sorted set: branches of ended jobs, by when they are to be deleted. What could not be deleted is counted in the hash behind it. */
  branches(): string {
    return `${this.prefix}:branches`
  }

  /** List: grants and wake-ups for one consumer. */
  inbox(holder: string): string {
    return `${this.prefix}:inbox:${holder}`
  }

  /** Sorted set: consumers with a place but without a job, by the time until which they are believed. */
  idle(): string {
    return `${this.prefix}::idle:${this.queueName}`
  }

  /** Hash: such a consumer to its view of the index, and `room:` with it to how many more jobs it has room for. */
  viewsOfIdle(): string {
    return `${this.idle()}:view`
  }

  /** The index of the deployment's waiting jobs: every key of it starts with this. */
  ready(): string {
    return `${this.prefix}:ready`
  }

  /** Hash: what consumers refuse to run of the queue's jobs. */
  refusals(): string {
    return `${this.ready()}:q:${this.queueName}:unfit`
  }

  /** Sorted set: the queue's jobs that may wait for so long only, by when that is over. */
  waits(): string {
    return `${this.prefix}::waits:${this.queueName}`
  }

  /** Sorted set: the queue's schedules, by when each is due; paused ones last. */
  schedules(): string {
    return `${this.prefix}::schedules-due:${this.queueName}`
  }

  /** String: when that was looked at last. */
  schedulesSeen(): string {
    return `${this.prefix}::schedules-seen:${this.queueName}`
  }

  /** Hash: a schedule; see lua/schedule-begin.lua. */
  schedule(id: string): string {
    return `${this.prefix}::schedule:${this.queueName}:${id}`
  }

  /** Hash: what has not ended of a schedule that was removed; see lua/schedule-remove.lua. */
  scheduleLeft(id: string): string {
    return `${this.prefix}::schedule-left:${this.queueName}:${id}`
  }

  /** What the keys of the BullMQ queue begin with whose job schedulers wake consumers for schedules; its name is the queue's. */
  ticksPrefix(): string {
    return `${this.prefix}::ticks`
  }

  /** Hash, BullMQ's: a job. */
  job(jobId: string): string {
    return `${this.prefix}:${this.queueName}:${jobId}`
  }

  /** BullMQ's own keys of the queue, as far as they are touched here. */
  bullmq(part: 'prioritized' | 'wait' | 'active' | 'meta' | 'delayed' | 'completed' | 'failed' | 'stalled-check'): string {
    return `${this.prefix}:${this.queueName}:${part}`
  }

  /** Channel: requests to cancel supervised jobs, by their ids among all queues. */
  cancelChannel(): string {
    return `${this.prefix}:cancel`
  }

  /** Channel: queues whose turn to hold the index against BullMQ was given up. */
  turnChannel(): string {
    return `${this.prefix}:turn`
  }

  /** Channel: the ids, among all queues, of jobs that have ended. */
  doneChannel(): string {
    return `${this.prefix}:done`
  }
}

class KeysOfRuns extends Keys {
  override runId(runId: string): string {
    return runId
  }
}
