import { parseArgs } from 'node:util'
import { fuzz } from './harness.js'
import { targets } from './targets.js'

/** `npm run fuzz -- --runs 10000 [--seed N] [--only NAME]`: inputs for whatever is read from outside; exits with 1 when one did harm. */

const { values } = parseArgs({ options: { runs: { type: 'string', default: '10000' }, seed: { type: 'string' }, only: { type: 'string' } } })
const runs = Number(values.runs)
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
const chosen = targets.filter(({ name }) => values.only === undefined || name.includes(values.only))
if (!Number.isInteger(runs) || runs < 1 || !Number.isInteger(seed) || chosen.length === 0) {
  process.stderr.write(`usage: npm run fuzz -- [--runs NUMBER] [--seed NUMBER] [--only NAME]\nNAME is a part of: ${targets.map(({ name }) => name).join(', ')}\n`)
  process.exit(2)
}

let harmed = false
for (const target of chosen) {
  const { problem, grownMiB } = await fuzz(target, { runs, seed })
  process.stdout.write(`${target.name}: ${runs} inputs, ${problem === null ? 'none did harm' : 'HARM'}, ${Math.round(grownMiB)} MiB more held at the end\n`)
  if (problem === null) continue
  harmed = true
  process.stdout.write(`${problem}\nagain: npm run fuzz -- --runs ${runs} --seed ${seed} --only '${target.name}'\n`)
}
process.exit(harmed ? 1 : 0)
