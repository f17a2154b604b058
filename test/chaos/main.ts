/** A chaos run from the command line: `npm run chaos -- --seed 7 --minutes 2`. See CONTRIBUTING.md. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { blameKinds, faultKinds, usualKinds, type FaultKind } from './fault-plan.js'
import { runChaos } from './run.js'

const number = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('give a number')
  return Number(text)
}
const limits = (text: string): Record<string, number> =>
  Object.fromEntries(
    text.split(',').map((part) => {
      const match = /^(local|e2b|modal|daytona)=(\d+)$/.exec(part)
      if (match === null) throw new InvalidArgumentError('give such as "local=3,e2b=4"')
      return [match[1] ?? '', Number(match[2])]
    }),
  )

const given = new Command('chaos')
  .description('Breaks everything at random while jobs run, and checks what became of them. The same seed makes the same jobs and the same faults.')
  .option('--seed <text>', 'decides jobs and faults; made up if left out', String(Date.now()))
  .option('--minutes <number>', 'for how long jobs come and things break', number, 2)
  .option('--jobs <number>', 'how many; 100 a minute if left out', number)
  .option('--consumers <number>', 'processes', number, 3)
  .option('--limits <list>', 'sandboxes at once, by provider', limits, { local: 3, e2b: 4, modal: 3, daytona: 3 })
  .addOption(new Option('--faults <kinds...>', 'only these; blame: those that concern one job, key, host, consumer or clock').choices([...faultKinds, 'blame', 'none']))
  .option('--light', 'quick jobs, for runs with thousands of them', false)
  .option('--free-ms <number>', "how long a place may be nobody's while a job waits, in peace", number, 1_000)
  .option('--unused-ms <number>', 'how long a place may be without a sandbox while a job waits, in peace', number, 15_000)
  .option('--dashboards', 'has a real Prometheus scrape it, and asks that every query of the dashboards', false)
  .option('--out <folder>', 'for the timeline and the logs')
  .parse()
  .opts<{ seed: string; minutes: number; jobs?: number; consumers: number; limits: Record<string, number>; faults?: (FaultKind | 'blame' | 'none')[]; light: boolean; freeMs: number; unusedMs: number; dashboards: boolean; out?: string }>()

const outDir = given.out ?? join(tmpdir(), `switchyard-chaos-${given.seed}-${process.pid}`)
const { violations, summary } = await runChaos({
  seed: given.seed,
  spanMs: given.minutes * 60_000,
  jobs: given.jobs ?? Math.round(given.minutes * 100),
  consumers: given.consumers,
  limits: given.limits,
  faults: given.faults === undefined ? usualKinds : faultKinds.filter((kind) => given.faults?.includes(kind) === true || (given.faults?.includes('blame') === true && blameKinds.includes(kind))),
  outDir,
  light: given.light,
  toleratedFreeMs: given.freeMs,
  toleratedUnusedMs: given.unusedMs,
  patienceMs: 120_000,
  watched: given.dashboards,
})
for (const [name, value] of Object.entries(summary)) console.log(`${name.padEnd(24)} ${value}`)
for (const { jobId, what } of violations) console.log(`VIOLATION ${jobId ?? ''}: ${what}`)
console.log(`timeline, logs and violations: ${outDir}`)
if (violations.length > 0) {
  console.log(`again: npm run chaos -- ${process.argv.slice(2).join(' ')}${process.argv.includes('--seed') ? '' : ` --seed ${given.seed}`}`)
  process.exitCode = 1
}
