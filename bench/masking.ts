// What masking costs: a step that prints 8 MiB, with all that is looked for in it and with nothing of that kind: the whole way from the sandbox to the log
// in Redis, once as it is, with twenty secrets besides the git host's tokens, and once with the redactor taken out, so that bytes go through as they came.
// By the processor time of this process, which is the consumer's: what a job takes of it without masking, and what the redactor takes for the pieces of
// one of them, given to it again and again with the forms of the secrets found anew, which hardly moves with what else the machine does. The pairs, which change
// places, say the same by their difference: the interval holds the true median of their ratios with a probability of 95 %.
import { randomBytes } from 'node:crypto'
import { secretsFromEnvironment } from '../src/consumers/index.js'
import { StreamRedactor } from '../src/consumers/output/redaction.js'
import { SecretPatterns } from '../src/consumers/output/secret-patterns.js'
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

/** What came from the sandbox in the last job. */
let pieces: Buffer[] = []
function recorded(this: unknown, raw: Uint8Array): Buffer {
  pieces.push(Buffer.from(raw))
  return push.call(this, raw)
}

/** What the redactor takes for these pieces. */
function redactorMs(): number {
  const before = process.cpuUsage()
  const patterns = new SecretPatterns()
  for (const value of [...Object.values(values), token(), token()]) patterns.add(value)
  const redactor = new StreamRedactor(patterns)
  for (const piece of pieces) push.call(redactor, piece)
  redactor.flush()
  return sinceMs(before)
}
/** As long as the git host's tokens are. */
const token = () => `eyJ${randomBytes(300).toString('base64url')}`

function sinceMs(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

const deployment = await startDeployment()
try {
  await deployment.seed('bench/masking', { 'README.md': 'x\n' })
  await deployment.startConsumer({ secrets: secretsFromEnvironment(names, values), settings: { maxLogBytes: 64 * 1024 * 1024 } })
  const measured = async (masks: boolean): Promise<Cost> => {
    methods.push = masks ? recorded : pass
    pieces = masks ? [] : pieces
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
    return { ms: steps.at(-1)?.durationMs ?? Number.NaN, cpuMs: sinceMs(before) }
  }
  await measured(false)
  await measured(true)
  const [without, masked]: [Cost[], Cost[]] = [[], []]
  for (let pair = 0; pair < pairs; pair++) {
    for (const first of pair % 2 === 0 ? [without, masked] : [masked, without]) first.push(await measured(first === masked))
  }
  const redactorCpuMs = median(Array.from({ length: 60 }, redactorMs))
  const ratios = (of: keyof Cost) => masked.map((each, index) => each[of] / (without[index]?.[of] ?? Number.NaN)).toSorted((a, b) => a - b)
  await report('masking', {
    pairs,
    'ms for 8 MiB without masking (median)': Math.round(median(without.map(({ ms }) => ms))),
    'ms with (median)': Math.round(median(masked.map(({ ms }) => ms))),
    'processor ms without (median)': Math.round(median(without.map(({ cpuMs }) => cpuMs))),
    'processor ms with (median)': Math.round(median(masked.map(({ cpuMs }) => cpuMs))),
    'pieces, and MiB of them': `${pieces.length}, ${(pieces.reduce((sum, { length }) => sum + length, 0) / 1024 / 1024).toFixed(1)}`,
    'processor ms of the redactor (median of 60)': Math.round(redactorCpuMs),
    'redactor / without masking': (redactorCpuMs / median(without.map(({ cpuMs }) => cpuMs))).toFixed(3),
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
