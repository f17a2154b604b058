import type { Logger } from 'pino'
import { counted } from '../job/counted.js'
import { type RedisFacts, redisProblems } from '../store/index.js'

/**
 * Looks again and again at what no consumer starts with: a Redis that drops keys when its memory is full. It may be set so later, or another one, which is, has taken
 * over; and of what it drops nobody is told.
 */
export class EvictionWatch {
  private said: number | null = null

  constructor(
    private readonly facts: () => Promise<RedisFacts>,
    private readonly onEvicting: () => void,
    private readonly log: Logger,
  ) {}

  async look(): Promise<void> {
    const facts = await this.facts()
    const problem = redisProblems(facts).maxmemoryPolicy
    if (problem === undefined) {
      this.said = null
      return
    }
    this.onEvicting()
    const { evictedKeys } = facts
    if (this.said === evictedKeys) return
    this.said = evictedKeys
    const dropped = evictedKeys === 0 ? '' : `; it has dropped ${counted(evictedKeys, 'key', 'keys')} since it was started: jobs, results and events may be gone, and jobs of which a part is gone may wait for ever`
    this.log.error({ evictedKeys }, `${problem}${dropped} (docs/redis.md)`)
  }
}
