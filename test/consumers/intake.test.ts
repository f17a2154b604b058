import { expect, it } from 'vitest'
import { Intake, type IntakeParts } from '../../src/consumers/intake/intake.js'
import { until } from '../store/fixture.js'

/** A consumer for which job `chosen` was chosen, and to which BullMQ gives `another` in its place. */
async function givenAnother(standing: { readonly listed: boolean; readonly inHand: boolean }): Promise<string[]> {
  const done: string[] = []
  let stop: (error: Error) => void = () => undefined
  const stopped = new Promise<never>((_resolve, reject) => (stop = reject))
  const messages: object[] = [{ kind: 'work', given: { jobId: 'chosen', provider: 'a', idle: true } }]
  const given = [{ id: 'another', data: {}, stalledCounter: 0, moveToWait: async () => void done.push('moved to wait') }]
  const parts = {
    context: {
      holder: 'consumer',
      settings: { maxJobs: 1, pollMs: 10, stuckAfterMs: 1_000, stallCheckMs: 1_000 },
      providers: new Map(),
      keys: { isRefused: () => false },
      liveness: { watch: () => undefined, cameRound: () => undefined },
      waits: { size: 0 },
      now: Date.now,
      log: { warn: (fields: object) => done.push(JSON.stringify(fields)) },
      ready: {
        standing: async () => ({ ...standing, provider: null, begun: false }),
        front: async (jobId: string) => void done.push(`${jobId} is before all others`),
        dispatch: () => stopped,
      },
    },
    locks: { moment: () => 0 },
    inbox: { next: async () => messages.shift() ?? stopped, unregisterIdle: async () => undefined },
    announcer: { means: () => ({ viewId: 'view', profileId: 'profile', secrets: [] }) },
    relisting: { list: async (jobIds: readonly string[]) => void done.push(`${jobIds.join()} is listed`), run: async () => false, stop: async () => undefined },
    takeJob: async () => given.shift(),
  }
  const intake = new Intake(parts as unknown as IntakeParts)
  intake.start()
  await until(() => done.length > 0 && given.length === 0, 'it was put back')
  await new Promise((resolve) => setImmediate(resolve))
  const over = intake.stop()
  stop(new Error('stopped'))
  await over
  return done
}

it('sees to it that a job is found which BullMQ gave in another’s place, and that is listed nowhere', async () => {
  expect(await givenAnother({ listed: false, inHand: false })).toEqual(['moved to wait', 'another is listed'])
  expect(await givenAnother({ listed: true, inHand: false })).toEqual(['moved to wait'])
})
