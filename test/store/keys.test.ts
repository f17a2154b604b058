import { describe, expect, it } from 'vitest'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'

describe('the names of keys', () => {
  /** What BullMQ's keys of a queue end with. */
  const ends = ['meta', 'id', 'wait', 'active', 'paused', 'delayed', 'prioritized', 'completed', 'failed', 'marker', 'events', 'limiter', 'pc', 'repeat', 'stalled', 'stalled-check']

  it.each(ends)('of a queue called "%s" are none that BullMQ keeps for another one', (name) => {
    const keys = new Keys(undefined, name)
    for (const method of Object.getOwnPropertyNames(Keys.prototype)) {
      const made: unknown = Reflect.get(keys, method)
      if (method === 'constructor' || typeof made !== 'function' || made.length > 0) continue
      const key: unknown = Reflect.apply(made, keys, [])
      // BullMQ's is `<prefix>:<queue>:<end>`, and a queue's name is not empty.
      if (typeof key === 'string') expect(/^\{switchyard\}:[^:]+:/.test(key) && key.endsWith(`:${name}`), method).toBe(false)
    }
  })

  it('are of one deployment each: a prefix that goes on as keys behind another one’s do is refused', () => {
    expect(() => new AgentQueue({ redis: { url: 'redis://127.0.0.1:1' }, prefix: '{a}::ticks' })).toThrow('prefix: "{a}::ticks" must not go on with "::" behind its hash tag')
    for (const prefix of ['{a}', 'team:{a}', '{a}2', '{a}:b']) expect(new Keys(prefix).prefix).toBe(prefix)
  })
})
