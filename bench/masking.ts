// What masking costs: a step that prints 8 MiB, as jobs of a consumer that have no secrets and as such that have twenty. Both take the whole way
// from the sandbox to the log in Redis. In pairs, so that what else the machine does meets both.
import { randomBytes } from 'node:crypto'
import { secretsFromEnvironment } from '../src/consumers/index.js'
import { startDeployment } from '../test/e2e/deployment.js'
import { median, report } from './report.js'

const pairs = Number(process.argv[2] ?? 9)
const values = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`KEY_${index}`, `sk-${randomBytes(30).toString('base64url')}`]))
const deployment = await startDeployment()
try {
  await deployment.seed('bench/masking', { 'README.md': 'x\n' })
  await deployment.startConsumer({ secrets: secretsFromEnvironment(Object.keys(values), values), settings: { maxLogBytes: 64 * 1024 * 1024 } })
  const milliseconds = async (secrets: string[]) => {
    const job = await deployment.queue.enqueue({
      repository: 'bench/masking',
      setup: [`awk 'BEGIN { for (i = 0; i < 110000; i++) printf "12:00:01.%03d compiled packages/web/src/components/module-%d.ts in %d ms\\n", i % 1000, i, i % 97 }' >"$HOME/output"`],
      steps: ['cat "$HOME/output"'],
      secrets,
      push: false,
    })
    const { status, steps } = await job.result({ timeoutMs: 300_000 })
    if (status !== 'succeeded') throw new Error(`the job ${status}`)
    return steps.at(-1)?.durationMs ?? Number.NaN
  }
  await milliseconds([])
  await milliseconds(Object.keys(values))
  const [without, masked]: [number[], number[]] = [[], []]
  for (let pair = 0; pair < pairs; pair++) {
    for (const first of pair % 2 === 0 ? [without, masked] : [masked, without]) first.push(await milliseconds(first === without ? [] : Object.keys(values)))
  }
  await report('masking', {
    pairs,
    'ms for 8 MiB without secrets (median)': Math.round(median(without)),
    'ms with twenty (median)': Math.round(median(masked)),
    'time with / without, of pairs (median)': Number(median(masked.map((each, index) => each / (without[index] ?? Number.NaN))).toFixed(3)),
  })
} finally {
  await deployment.close()
}
