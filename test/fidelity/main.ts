/** The fidelity suite from the command line: `npm run fidelity -- --help`. See CONTRIBUTING.md. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { has } from '../runner/process-sandbox.js'
import { phases, travel, type Phase } from './journey.js'
import { kinds } from './kinds/index.js'
import { trySequences } from './sequences.js'
import { modes, World, type Mode } from './world.js'

const number = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('give a number')
  return Number(text)
}

const given = new Command('fidelity')
  .description('Takes kinds of repositories, and random sequences of what agents do, through jobs that lose their sandboxes, and says all that is then not as it was.')
  .option('--kinds <regex>', 'the kinds of the table whose name matches')
  .addOption(new Option('--modes <modes...>', 'how commits get in and out').choices(modes).default([...modes]))
  .addOption(new Option('--phases <phases...>', 'where a sandbox is lost').choices(phases).default([...phases]))
  .option('--sequences <number>', 'so many random sequences in place of the table', number)
  .option('--seed <number>', 'decides the sequences; made up if left out', number, Date.now() % 2 ** 31)
  .option('--path <path>', 'one of the sequences alone, as the line that repeats it says')
  .option('--shrink-seconds <number>', 'how long to look for a shorter sequence that fails too', number, 120)
  .option('--at-once <number>', 'how many go on side by side', number, 3)
  .parse()
  .opts<{ kinds?: string; modes: Mode[]; phases: Phase[]; atOnce: number; sequences?: number; seed: number; path?: string; shrinkSeconds: number }>()

const world = await World.start()
try {
  process.exitCode = (await (given.sequences === undefined ? tryTable() : tryRandomWork(given.sequences))) ? 0 : 1
} finally {
  await world.close()
}

/** Does the same `atOnce` times side by side. */
async function sideBySide(work: (lane: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: given.atOnce }, (_, lane) => work(lane)))
}

async function tryTable(): Promise<boolean> {
  const chosen = Object.values(kinds).flat().filter(({ name }) => new RegExp(given.kinds ?? '').test(name))
  const journeys = chosen.flatMap((kind) => given.modes.filter((mode) => (kind.only ?? mode) === mode).map((mode) => ({ kind, mode })))
  let failed = 0
  await sideBySide(async () => {
    for (let next = journeys.shift(); next !== undefined; next = journeys.shift()) {
      const { kind, mode } = next
      if (kind.needs !== undefined && !has(kind.needs)) {
        console.log(`left out: ${kind.name}: ${kind.needs} is not installed`)
        continue
      }
      const problems = await travel(world, kind, mode, given.phases)
      if (problems.length > 0) failed += 1
      console.log([`${problems.length === 0 ? 'right' : 'WRONG'}: ${kind.name} (${mode})`, ...problems.map((problem) => `  ${problem}`)].join('\n'))
    }
  })
  console.log(`${chosen.length} kinds, ${failed} wrong`)
  return failed === 0
}

/** Each lane has a seed of its own, counted on from the one that was given. */
async function tryRandomWork(sequences: number): Promise<boolean> {
  console.log(`seed ${given.seed}`)
  const lanes = Math.min(given.atOnce, sequences)
  const wrong: string[] = []
  await sideBySide(async (lane) => {
    if (lane >= lanes) return
    const share = Math.floor(sequences / lanes) + (lane < sequences % lanes ? 1 : 0)
    const problem = await trySequences(world, { sequences: share, seed: given.seed + lane, path: given.path, shrinkMs: given.shrinkSeconds * 1_000 })
    if (problem === undefined) return
    wrong.push(problem)
    console.log(`WRONG: ${problem}`)
  })
  console.log(`${sequences} sequences: ${wrong.length === 0 ? 'all right' : 'the first of each lane that is wrong is above'}`)
  return wrong.length === 0
}
