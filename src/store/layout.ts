import type { Redis } from 'ioredis'
import { NewerReleaseError, OlderReleaseError } from '../job/errors.js'
import type { Keys } from './keys.js'

/**
 * How all that Redis holds is laid out, as a number. A release raises it whose keys or scripts the one before would read, or write, wrongly: two that differ in
 * it must not work at one Redis. Fields that come to records, specs and results are no reason (`lastingObject`). It is said at the first announcement of a consumer.
 */
export const layout = 1

/**
 * Refuses a Redis whose jobs this release would lose or run twice, before anything is written there.
 * @throws NewerReleaseError, OlderReleaseError.
 */
export async function assertLayout(redis: Redis, keys: Keys): Promise<void> {
  const [said, ...types] = await Promise.all([redis.get(keys.layout()), ...keys.unsaidLayout().map((key) => redis.type(key))])
  if (said !== null && Number(said) > layout) throw newerLayout(keys, said)
  // Of a release from before layouts were said. It may work beside one that says them.
  if (types.includes('hash')) {
    throw new OlderReleaseError(`redis: jobs that an older release keeps in another way wait or run in the queue "${keys.queueName}" (prefix "${keys.prefix}"), and would run twice; let them end with that release, then start this one`)
  }
}

export function newerLayout(keys: Keys, said: string): NewerReleaseError {
  return new NewerReleaseError(`redis: a newer release keeps the jobs of the prefix "${keys.prefix}" in another way (layout ${said}, and this one knows ${layout}); update this process`)
}
