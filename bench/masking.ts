// What masking costs: a step that prints 8 MiB, with all that is looked for in it and with nothing of that kind: the whole way from the sandbox to the log
// in Redis, once as it is, with twenty secrets besides the git host's tokens, and once with the redactor taken out, so that bytes go through as they came.
// By the processor time of this process, which is the consumer's, and in pairs that change places, so that what else the machine does meets
// both and hardly moves the figures; the interval holds the true median of the pairs' ratios with a probability of 95 %.
import { randomBytes } from 'node:crypto'
import { secretsFromEnvironment } from '../src/consumers/index.js'
import { StreamRedactor } from '../src/consumers/output/redaction.js'
import { startDeployment } from '../test/e2e/deployment.js'
import { median, report } from './report.js'

const pairs = Number(process.argv[2] ?? 15)
const values = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`KEY_${index}`, `sk-${randomBytes(30).toString('base64url')}`]))
const names = Object.keys(values)

/** What masks, and what stands in its place. */
const methods = StreamRedactor.prototype as { push: (raw: Uint8Array) => Buffer }
const { push } = methods
const pass = (raw: Uint8Array) => Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)

interface Cost {
  readonly ms: number
  readonly cpuMs: number
}

const deployment = await startDeployment()
try {
  await deployment.seed('bench/masking', { 'README.md': 'x\n' })
  await deployment.startConsumer({ secrets: secretsFromEnvironment(names, values), settings: { maxLogBytes: 64 * 1024 * 1024 } })
  const measured = async (masks: boolean): Promise<Cost> => {
    methods.push = masks ? push : pass
    const before = process.cpuUsage()
    const job = await deployment.queue.enqueue({
      repository: 'bench/masking',
      setup: [`awk 'BEGIN { for (i = 0; i < 110000; i++) printf "12:00:01.%03d compiled packages/web/src/components/module-%d.ts in %d ms\\n", i % 1000, i, i % 97 }' >"$HOME/output"`],
      steps: ['cat "$HOME/output"'],
      secrets: masks ? names : [],
      push: false,
    })
    const { status, steps } = await job.result({ timeoutMs: 300_000 })
    if (status !== 'succeeded') throw new Error(`the job ${status}`)
    const { user, system } = process.cpuUsage(before)
    return { ms: steps.at(-1)?.durationMs ?? Number.NaN, cpuMs: (user + system) / 1000 }
  }
  await measured(false)
  await measured(true)
  const [without, masked]: [Cost[], Cost[]] = [[], []]
  for (let pair = 0; pair < pairs; pair++) {
    for (const first of pair % 2 === 0 ? [without, masked] : [masked, without]) first.push(await measured(first === masked))
  }
  const ratios = (of: keyof Cost) => masked.map((each, index) => each[of] / (without[index]?.[of] ?? Number.NaN)).toSorted((a, b) => a - b)
  await report('masking', {
    pairs,
    'ms for 8 MiB without masking (median)': Math.round(median(without.map(({ ms }) => ms))),
    'ms with (median)': Math.round(median(masked.map(({ ms }) => ms))),
    'processor ms without (median)': Math.round(median(without.map(({ cpuMs }) => cpuMs))),
    'processor ms with (median)': Math.round(median(masked.map(({ cpuMs }) => cpuMs))),
    'time with / without': told(ratios('ms')),
    'processor time with / without': told(ratios('cpuMs')),
  })
} finally {
  methods.push = push
  await deployment.close()
}

/** The median, and between which of the sorted values the true one lies: by the ranks that a binomial distribution gives. */
function told(sorted: readonly number[]): string {
  const half = 0.98 * Math.sqrt(sorted.length)
  const [low, high] = [Math.max(0, Math.floor(sorted.length / 2 - half)), Math.min(sorted.length - 1, Math.ceil(sorted.length / 2 + half) - 1)]
  return `${median(sorted).toFixed(3)} (${sorted[low]?.toFixed(3)} to ${sorted[high]?.toFixed(3)})`
}
