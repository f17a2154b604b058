import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { describeWord, type Keys, Operators, redisNowMs } from '../../store/index.js'

/** Resumes the queue by BullMQ's own means, when the time is over for which an operator paused it; not when that was said anew meanwhile. */
export async function resumeQueue(redis: Redis, keys: Keys, log: Logger): Promise<void> {
  const operators = new Operators(redis, keys)
  const word = await operators.queuePause()
  if (word?.untilMs == null) return
  if ((await redisNowMs(redis, keys)) < word.untilMs) return
  // It shares the connection, and closes none.
  const queue = new Queue(keys.queueName, { connection: redis, prefix: keys.prefix, skipMetasUpdate: true })
  queue.on('error', (error) => log.warn({ message: error.message }, 'queue connection'))
  try {
    await queue.resume()
    await operators.notePause(null)
    log.info({ paused: describeWord(word) }, 'the queue is resumed: the time is over for which it was paused')
  } finally {
    await queue.close()
  }
}
