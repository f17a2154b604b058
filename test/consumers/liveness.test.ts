import { expect, it } from 'vitest'
import { Liveness } from '../../src/consumers/liveness.js'
import { readinessOf } from '../../src/consumers/readiness.js'

/** A consumer's liveness with a clock of its own and a Redis that answers or not. */
function watched() {
  let nowMs = 0
  let redis: 'answers' | 'refuses' | 'away' = 'answers'
  let waiting: (() => void)[] = []
  const liveness = new Liveness({
    tickMs: 1_000,
    elapsed: () => nowMs,
    ping: () => (redis === 'answers' ? Promise.resolve() : redis === 'refuses' ? Promise.reject(new Error('LOADING')) : new Promise<void>((resolve) => waiting.push(resolve))),
  })
  liveness.watch('intake', 10_000)
  liveness.watch('reaper', 60_000)
  return {
    liveness,
    stuck: () => liveness.stuck().map(({ loop }) => loop),
    redis: (state: typeof redis) => {
      redis = state
      if (state === 'answers') for (const resolve of waiting.splice(0)) resolve()
      waiting = []
    },
    /** Seconds pass, each with a tick, as when the event loop turns. */
    pass: async (seconds: number) => {
      for (let each = 0; each < seconds; each++) {
        nowMs += 1_000
        liveness.tick()
        await Promise.resolve().then(() => undefined)
      }
    },
    jump: (seconds: number) => {
      nowMs += seconds * 1_000
    },
  }
}

it('names each loop that has not come round for longer than it may, the longest quiet first, until it does', async () => {
  const { liveness, pass, stuck } = watched()
  await pass(10)
  expect(stuck()).toEqual([])
  await pass(1)
  expect(liveness.stuck()).toEqual([{ loop: 'intake', quietMs: 11_000 }])
  await pass(50)
  expect(stuck()).toEqual(['intake', 'reaper'])
  liveness.cameRound('reaper')
  expect(stuck()).toEqual(['intake'])
  liveness.cameRound('intake')
  expect(stuck()).toEqual([])
})

it('does not take a consumer for stuck that waits for Redis, however long, nor right after it came back', async () => {
  const { pass, redis, stuck } = watched()
  await pass(5)
  redis('away')
  await pass(10_000)
  expect(stuck()).toEqual([])
  redis('answers')
  await pass(2)
  expect(stuck()).toEqual([])
  // From then on it counts again.
  await pass(10)
  expect(stuck()).toEqual(['intake'])
})

it('does not take a process for stuck that was frozen and goes on', async () => {
  const { pass, jump, stuck } = watched()
  await pass(5)
  jump(3_600)
  await pass(1)
  expect(stuck()).toEqual([])
})

it('watches a job while it is supervised, and forgets it then', async () => {
  const { liveness, pass, stuck } = watched()
  liveness.watch('job 1', 2_000)
  await pass(3)
  expect(stuck()).toEqual(['job 1'])
  liveness.ended('job 1')
  expect(stuck()).toEqual([])
  // What comes late from its supervision does not bring it back.
  liveness.cameRound('job 1')
  await pass(3)
  expect(stuck()).toEqual([])
})

it('is ready while Redis answers, a provider and the git host take its keys, and it is not stopping', async () => {
  const ask = async (fault: 'none' | 'redis refuses' | 'redis hangs' | 'provider' | 'git' | 'stopping') =>
    await readinessOf({
      redis: { ping: () => (fault === 'redis refuses' ? Promise.reject(new Error('MASTERDOWN')) : fault === 'redis hangs' ? new Promise(() => undefined) : Promise.resolve('PONG')) },
      providers: ['a', 'b'],
      health: { isRefused: (of) => fault === 'provider' && 'provider' in of, problem: () => (fault === 'git' ? 'the key is refused' : null) },
      draining: () => fault === 'stopping',
    })
  expect(await ask('none')).toEqual({ ready: true, problems: [] })
  expect(await ask('redis refuses')).toEqual({ ready: false, problems: ['Redis: MASTERDOWN'] })
  expect(await ask('redis hangs')).toEqual({ ready: false, problems: ['Redis: no answer within 2 s'] })
  expect(await ask('provider')).toEqual({ ready: false, problems: ['no provider takes this consumer’s keys'] })
  expect(await ask('git')).toEqual({ ready: false, problems: ['git host: the key is refused'] })
  expect(await ask('stopping')).toEqual({ ready: false, problems: ['it is stopping: its jobs are handed over'] })
})
