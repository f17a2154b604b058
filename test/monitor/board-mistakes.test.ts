import { Redis } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { CheckpointGoneError, InvalidInputError, KeyTakenError, UnknownJobError } from '../../src/job/errors.js'
import { mistakeIn } from '../../src/monitor/board-mistakes.js'

/** Bull Board answers 500 to whatever is thrown, with no more of it than its message. */
describe('what Bull Board calls its own fault', () => {
  const redis = new Redis({ lazyConnect: true, host: 'redis.example', port: 7_000 })
  const answerTo = (error: Error) => mistakeIn(JSON.stringify({ error: { key: 'ERRORS.INTERNAL_SERVER_ERROR' }, message: error.message }), redis)

  it.each([
    ['a job that is gone meanwhile', new UnknownJobError('a\nb'), 404],
    ['one that the queue does not hold', new InvalidInputError("job a can't be run again: the queue does not hold it any more"), 409],
    ['one that would be dropped', new KeyTakenError(['a'], 'k', 'b'), 409],
    ['one without its checkpoint', new CheckpointGoneError(['a'], 'it is deleted'), 409],
    ['one that has gone on', new Error('Job a is not in the failed state. reprocessJob'), 409],
    ['one that was removed', new Error('Missing key for job a. promote'), 409],
    ['an id that no job can have', new Error('Custom Id cannot contain :'), 400],
    ['a full Redis', new Error("OOM command not allowed when used memory > 'maxmemory'."), 503],
    ['a Redis that is away', new Error('connect ECONNREFUSED 127.0.0.1:1'), 503],
  ])('%s is answered as what it is', (_what, error, status) => {
    const answer = answerTo(error)
    expect(answer?.status).toBe(status)
    expect(answer?.error).toMatch(status === 503 ? /^redis: .* can't be used \(.*\); / : /^(job a|The job|options\.jobId)/)
  })

  it.each([new TypeError('x is undefined'), new Error('job x: is not known'), new Error('')])('its own faults stay: %s', (error) => {
    expect(answerTo(error)).toBeNull()
    expect(mistakeIn(error.message, redis)).toBeNull()
  })
})
