/**
 * `npm run walk:queue`: a random walk over a whole deployment. Two queues, consumers that differ, each behind a way to Redis that is cut or frozen, and all
 * that BullMQ and `AgentQueue` can do to a queue and its jobs; then all is quiet, and is held against `checks.ts`. `SEED=7` chooses the walk, `ROUNDS=10` takes
 * that many seeds one after the other, `SECONDS=8` is how long each lasts. `BUDGETS=1` gives sandboxes a price and tenants and jobs budgets, `FLUSH=1` empties
 * Redis in the middle, `FREEZE=1` freezes consumers where others die, `TROUBLE=1` has providers refuse, hang and lose answers, `RESTART=1` has Redis freeze, refuse
 * writes, go back by up to five seconds and be two for a while, `PHASES=1` does things to jobs while a certain call for them stands still, `TRACE=FOLDER` keeps what happened. The same seed does the same things; how
 * they get in each other's way is decided anew each time. Exits 1 when something was found.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readSettings } from './settings.js'
import { walk } from './walk.js'

const { seed: first, rounds, traceDir, ...settings } = readSettings(process.env)
// What nobody catches belongs to the round that is under way.
let uncaught: string[] = []
process.on('unhandledRejection', (error) => void uncaught.push(`a rejection was not handled: ${error instanceof Error ? `${error.stack ?? error.message} ${JSON.stringify(error)}` : String(error)}`))

const failed: number[] = []
for (let seed = first; seed < first + rounds; seed++) {
  console.log(`seed ${seed}`)
  const { findings, warnings, summary, trace } = await walk(seed, settings)
  const found = [...findings, ...uncaught]
  uncaught = []
  console.log(`  ${summary}`)
  for (const [said, times] of warnings) console.log(`  consumers said, ${times} times: ${said}`)
  for (const finding of found) console.log(`  FOUND ${finding}`)
  if (found.length > 0) failed.push(seed)
  if (traceDir === undefined) continue
  await mkdir(traceDir, { recursive: true })
  const file = join(traceDir, `walk-${seed}.txt`)
  await writeFile(file, [...trace, ...found.map((finding) => `FOUND ${finding}`), ''].join('\n'))
  console.log(`  what happened: ${file}`)
}
const flags = [['BUDGETS', settings.budgets], ['FLUSH', settings.flush], ['FREEZE', settings.freeze], ['TROUBLE', settings.trouble], ['RESTART', settings.restart], ['PHASES', settings.phases]] as const
for (const seed of failed) console.log(`again: SEED=${seed} SECONDS=${settings.seconds} ${flags.map(([name, on]) => (on ? `${name}=1 ` : '')).join('')}npm run walk:queue`)
// Consumers that did not stop must not keep it from ending.
process.exit(failed.length > 0 ? 1 : 0)
