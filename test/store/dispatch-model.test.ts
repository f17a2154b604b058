import { it } from 'vitest'
import fc from '../seeded-fast-check.js'
import { command } from './dispatch-model/commands.js'
import { Walk } from './dispatch-model/walk.js'
import { useRedis } from './fixture.js'

/**
 * Random walks over the index, the ledger and the run records, by everything that producers, consumers and BullMQ's own calls can do, held against a
 * plain model of the rules (dispatch-model/model.ts): what may be given, to whom, and before what, and which run of a job is next. `npm run test:model` walks 10,000 steps.
 */
const steps = Number(process.env['SWITCHYARD_MODEL_STEPS'] ?? 300)
const stepsPerWalk = 100

const redis = useRedis()

it('gives what may be given, in its order, never too much, and in the end everything', { timeout: 60_000 + steps * 200 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: stepsPerWalk, size: 'max' }), async (commands) => {
      const client = redis.connect()
      await client.flushall()
      const walk = new Walk(client, redis.keys)
      await walk.begin()
      for (const each of commands) await walk.step(each)
      await walk.finish()
    }),
    { numRuns: Math.ceil(steps / (0.5 * stepsPerWalk)), ...(process.env['SWITCHYARD_MODEL_SEED'] === undefined ? {} : { seed: Number(process.env['SWITCHYARD_MODEL_SEED']), path: process.env['SWITCHYARD_MODEL_PATH'] ?? '' }), endOnFailure: process.env['CI'] !== undefined },
  )
})
