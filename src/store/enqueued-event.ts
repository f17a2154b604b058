import type { Redis } from 'ioredis'
import type { Keys } from './keys.js'
import type { EarlyEvent } from './stored-events.js'
import { queueScript, runScript } from './scripts.js'

/**
 * Tells that a job is about to be added, in the transaction that adds it; nothing when it is there already. The connection is one that `createRedis` made.
 * @param ended whether it has ended, and is added anew to run again; else nothing is told of one that has.
 */
export function queueEnqueued(transaction: object, keys: Keys, jobId: string, event: EarlyEvent, ended: boolean): void {
  queueScript(transaction, 'event-enqueued', keysOf(keys, jobId), argumentsOf(event, ended ? 'anew' : ''))
}

/** Tells that a job which has ended is about to be run again. */
export async function tellRetried(redis: Redis, keys: Keys, jobId: string, event: EarlyEvent): Promise<void> {
  await runScript(redis, 'event-enqueued', keysOf(keys, jobId), argumentsOf(event, '1'))
}

function keysOf(keys: Keys, jobId: string): string[] {
  return [keys.job(jobId), keys.run(jobId), keys.events(), keys.eventAccount()]
}

function argumentsOf({ id, kind, runId, hooks, json }: EarlyEvent, again: string): string[] {
  return [again, id, kind, runId, hooks.map(({ n }) => n).join(' '), json]
}
