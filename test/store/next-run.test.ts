import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { lastRun, nextGeneration, queuedFacts, queuedFields, runFields } from '../../src/store/next-run.js'
import { useRedis } from './fixture.js'

const redis = useRedis()

const run = { generation: '1', result: '{}', atMs: '100' }
const job = { timestamp: '1' }

it.each<[string, Record<string, string>, Record<string, string>, number | null]>([
  ['BullMQ has ended it', run, { ...job, atm: '1', processedOn: '50', finishedOn: '110' }, null],
  ['its last holder has not told BullMQ', run, { ...job, processedOn: '50' }, null],
  ['its last holder died before it told BullMQ', run, { ...job, processedOn: '120', stc: '1' }, null],
  ['it is run again', run, { ...job, atm: '1' }, 2],
  ['it is run again, counted anew', run, job, 2],
  ['and somebody has taken it', run, { ...job, processedOn: '120' }, 2],
  ['and died, where it had been seen that it is run again', { ...run, again: '1' }, { ...job, processedOn: '120', stc: '1' }, 2],
  ['that was seen of an earlier run', { ...run, generation: '2', again: '1' }, { ...job, processedOn: '120', stc: '1' }, null],
  ['it had stalled while it ran', { ...run, stalls: '2' }, { ...job, stc: '2' }, 2],
  ['it was removed, and added anew', { ...run, stalls: '2' }, job, 2],
  ['it ended while it waited, and waits on', { ...run, stalls: '-' }, job, null],
  ['whoever took it then was told that it has ended', { ...run, stalls: '0', toldAtMs: '120' }, { ...job, processedOn: '120' }, null],
  ['and it is run again, counted anew', { ...run, stalls: '0', toldAtMs: '120' }, { ...job, processedOn: '150' }, 2],
  ['it goes on', { generation: '1', atMs: '100' }, { ...job, processedOn: '120', stc: '1' }, null],
])('the next run of a job, where %s', (_what, last, queued, next) => {
  const facts = queuedFacts(queuedFields.map((field) => queued[field] ?? null))
  expect(facts === null ? null : nextGeneration(facts, lastRun(runFields.map((field) => last[field] ?? null), Number(last['generation'])))).toBe(next)
})

it('is the same for scripts, whatever a run and BullMQ’s job hold', async () => {
  const client = redis.connect()
  const source = readFileSync(new URL('../../src/store/lua/next-run.lua', import.meta.url), 'utf8')
  const both = (fields: Record<string, readonly (string | undefined)[]>): Record<string, string>[] =>
    Object.entries(fields).reduce<Record<string, string>[]>((all, [field, values]) => all.flatMap((each) => values.map((value) => (value === undefined ? each : { ...each, [field]: value }))), [{}])
  const runs = both({ generation: ['1', '2'], result: [undefined, '{}'], stalls: [undefined, '-', '1'], atMs: ['100'], toldAtMs: [undefined, '200'], again: [undefined, '1'] })
  const jobs = both({ timestamp: [undefined, '1'], finishedOn: [undefined, '1'], atm: [undefined, '1'], processedOn: [undefined, '50', '150', '250'], stc: [undefined, '1', '2'] }).filter((each) => Object.keys(each).length > 0)
  const pipeline = client.pipeline()
  runs.forEach((fields, index) => pipeline.hset(`${redis.keys.prefix}:run:${index}`, fields))
  jobs.forEach((fields, index) => pipeline.hset(`${redis.keys.prefix}:job:${index}`, fields))
  await pipeline.exec()
  const script = `${source}
local answers = {}
for i = 0, ARGV[2] - 1 do
  for k = 0, ARGV[3] - 1 do answers[#answers + 1] = nextRun.generation(ARGV[1] .. ':run:' .. i, ARGV[1] .. ':job:' .. k) or 0 end
end
return answers`
  const answers = (await client.eval(script, 1, redis.keys.run('any'), redis.keys.prefix, runs.length, jobs.length)) as number[]
  const differ = runs.flatMap((last, i) =>
    jobs.flatMap((queued, k) => {
      const facts = queuedFacts(queuedFields.map((field) => queued[field] ?? null))
      const here = facts === null ? null : nextGeneration(facts, lastRun(runFields.map((field) => last[field] ?? null), Number(last['generation'])))
      return (answers[i * jobs.length + k] ?? -1) === (here ?? 0) ? [] : [{ last, queued, here, there: answers[i * jobs.length + k] }]
    }),
  )
  expect(differ).toEqual([])
  expect(answers).toContain(3)
})
