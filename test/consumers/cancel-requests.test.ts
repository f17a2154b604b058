import { expect, it } from 'vitest'
import { type Cancellable, CancelRequests } from '../../src/consumers/intake/cancel-requests.js'
import type { CancelRequest } from '../../src/store/index.js'

const request = { reason: 'enough', atMs: 1 }

/** Each look waits until it is answered. */
function watched(...jobIds: string[]) {
  const cancelled: string[] = []
  const runs = new Map<string, Cancellable>(jobIds.map((jobId) => [jobId, { cancel: (reason) => cancelled.push(`${jobId}: ${reason}`) }]))
  const asked: (readonly string[])[] = []
  const answers: { readonly resolve: (found: Map<string, CancelRequest>) => void; readonly reject: (error: Error) => void }[] = []
  const warned: unknown[] = []
  const requests = new CancelRequests({
    runs,
    log: { warn: (fields: unknown) => warned.push(fields) },
    store: {
      cancelRequests: (of) => {
        asked.push(of)
        return new Promise((resolve, reject) => answers.push({ resolve, reject }))
      },
    },
  })
  return { requests, runs, cancelled, asked, answers, warned }
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

it('any number of signals cost one look at a time, and what is said during one is asked after it', async () => {
  const { requests, asked, answers, cancelled } = watched('a', 'b', 'c')
  for (let i = 0; i < 1_000; i++) void requests.heed('a')
  void requests.heed('not in hand')
  void requests.heed('b')
  await settled()
  expect(asked).toEqual([['a']])
  answers[0]!.resolve(new Map())
  await settled()
  expect(asked).toEqual([['a'], ['a', 'b']])
  void requests.heedAll()
  answers[1]!.resolve(new Map([['b', request]]))
  await settled()
  expect(cancelled).toEqual(['b: enough'])
  expect(asked.slice(2).map((jobIds) => jobIds.toSorted())).toEqual([['a', 'b', 'c']])
  answers[2]!.resolve(new Map())
  await settled()
  expect(asked).toHaveLength(3)
})

it('nobody is asked where nothing is in hand, and the next signal is heeded after a look that failed', async () => {
  const { requests, runs, asked, answers, warned, cancelled } = watched('a')
  await requests.heed('not in hand')
  expect(asked).toEqual([])
  void requests.heed('a')
  answers[0]!.reject(new Error('away'))
  await settled()
  expect(warned).toEqual([{ message: 'away' }])
  void requests.heed('a')
  // The job is in hand for its next run by the time of the answer.
  runs.set('a', { cancel: () => cancelled.push('the next run') })
  answers[1]!.resolve(new Map([['a', request]]))
  await settled()
  expect(cancelled).toEqual(['a: enough'])
})
