import { blast, faults } from './in-memory/blast-radius.js'

/**
 * npm run bench:blast-radius [-- PAIRS [WORDS]]: the time that twenty good jobs take with one bad job, sandbox, create, kill or
 * repository beside them and without it, in turn; per fault the median of PAIRS ratios (default 5), of those faults whose name
 * holds WORDS. Ends with 1 when one is over 1.2.
 */
const [, , pairsText = '5', words = ''] = process.argv
const pairs = Number(pairsText)
const limit = 1.2

const chosen = faults.filter(({ name }) => name.includes(words))
let worst = 0
const beganAtMs = Date.now()
await blast(null)
for (const fault of chosen) {
  const ratios: number[] = []
  for (let pair = 0; pair < pairs; pair++) {
    const without = (await blast(null, { goodOnly: true, asWith: fault })).goodMs
    const beside = (await blast(fault, { goodOnly: true })).goodMs
    ratios.push(beside / without)
  }
  const median = ratios.sort((a, b) => a - b)[Math.floor(ratios.length / 2)] ?? NaN
  worst = Math.max(worst, median)
  console.log(`${median.toFixed(2)}  ${fault.name}  (${ratios.map((ratio) => ratio.toFixed(2)).join(' ')})`)
}
console.log(`worst median ${worst.toFixed(2)}, at most ${limit}; took ${Math.round((Date.now() - beganAtMs) / 1000)} s`)
process.exit(worst <= limit ? 0 : 1)
