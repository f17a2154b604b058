// What masking costs: a step that prints 8 MiB, as jobs of a consumer that have no secrets and as such that have twenty. Both take the whole way
// from the sandbox to the log in Redis. In pairs, so that what else the machine does meets both; the processor time of this process, which is
// the consumer's, is hardly moved by that.
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
  const measured = async (secrets: string[]) => {
    const before = process.cpuUsage()
    const job = await deployment.queue.enqueue({
      repository: 'bench/masking',
      setup: [`awk 'BEGIN { for (i = 0; i < 110000; i++) printf "12:00:01.%03d compiled packages/web/src/components/module-%d.ts in %d ms\\n", i % 1000, i, i % 97 }' >"$HOME/output"`],
      steps: ['cat "$HOME/output"'],
      secrets,
      push: false,
    })
    const { status, steps } = await job.result({ timeoutMs: 300_000 })
    if (status !== 'succeeded') throw new Error(`the job ${status}`)
    const { user, system } = process.cpuUsage(before)
    return { ms: steps.at(-1)?.durationMs ?? Number.NaN, cpuMs: (user + system) / 1000 }
  }
  await measured([])
  await measured(Object.keys(values))
  const [without, masked]: [{ ms: number; cpuMs: number }[], { ms: number; cpuMs: number }[]] = [[], []]
  for (let pair = 0; pair < pairs; pair++) {
    for (const first of pair % 2 === 0 ? [without, masked] : [masked, without]) first.push(await measured(first === without ? [] : Object.keys(values)))
  }
  const ratio = (of: 'ms' | 'cpuMs') => Number(median(masked.map((each, index) => each[of] / (without[index]?.[of] ?? Number.NaN))).toFixed(3))
  await report('masking', {
    pairs,
    'ms for 8 MiB without secrets (median)': Math.round(median(without.map(({ ms }) => ms))),
    'ms with twenty (median)': Math.round(median(masked.map(({ ms }) => ms))),
    'processor ms without secrets (median)': Math.round(median(without.map(({ cpuMs }) => cpuMs))),
    'processor ms with twenty (median)': Math.round(median(masked.map(({ cpuMs }) => cpuMs))),
    'time with / without, of pairs (median)': ratio('ms'),
    'processor time with / without, of pairs (median)': ratio('cpuMs'),
  })
} finally {
  await deployment.close()
}
