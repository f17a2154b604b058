import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { describeWord, type Keys, Operators } from '../../store/index.js'

/** Resumes the queue when the time is over for which an operator paused it; not when that was said anew meanwhile. */
export async function resumeQueue(redis: Redis, keys: Keys, log: Logger): Promise<void> {
  const word = await new Operators(redis, keys).liftQueuePause()
  if (word !== null) log.info({ paused: describeWord(word) }, 'the queue is resumed: the time is over for which it was paused')
}
