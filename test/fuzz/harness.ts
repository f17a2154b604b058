import { writeSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'

/**
 * Inputs by the thousand for whatever is read from outside. A target's check throws when an input does harm: a crash, an error that is
 * not one of ours, an answer that blames the server. The harness adds what holds for all: an input that is not done within a minute ends
 * the process with a word about it, and what is held when all is over is no more than after the first third of the inputs.
 */
export interface Target<Input = unknown> {
  readonly name: string
  readonly open: () => Promise<Opened<Input>>
  /** How many inputs are tried side by side: where each waits for processes of its own. */
  readonly atOnce: number
}

export interface Opened<Input> {
  readonly inputs: fc.Arbitrary<Input>
  readonly check: (input: Input) => Promise<void> | void
  /** After the last input. Throws when what was opened is not as well as before. */
  readonly close?: (() => Promise<void>) | undefined
}

export interface Outcome {
  readonly runs: number
  readonly seed: number
  /** What the failing input was and why; null when there was none. */
  readonly problem: string | null
  readonly grownMiB: number
}

/** Held more than after the first inputs: caches that are still filling are not more. */
const mostGrownMiB = 48
const hangMs = 60_000

/** Keeps a target's input type to itself. */
export function target<Input>(name: string, open: () => Promise<Opened<Input>> | Opened<Input>, atOnce = 1): Target {
  return {
    name,
    atOnce,
    open: async () => {
      const { inputs, check, close } = await open()
      return { inputs, check: (input) => check(input as Input), close }
    },
  }
}

export async function fuzz({ name, open, atOnce }: Target, { runs, seed }: { readonly runs: number; readonly seed: number }): Promise<Outcome> {
  const watchdog = startWatchdog(name, seed)
  const { inputs, check, close } = await open()
  const property = fc.asyncProperty(fc.array(inputs, { minLength: atOnce, maxLength: atOnce }), async (some) => {
    watchdog.beat()
    const failed = (await Promise.allSettled(some.map(async (input) => check(input)))).find((end) => end.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  })
  const some = async (inputCount: number, from: number) => {
    const details = await fc.check(property, { numRuns: Math.ceil(inputCount / atOnce), seed: from, endOnFailure: false, plugins: [fc.interruptAfterTimeLimit(20 * 60_000, { failOnInterrupt: true })] })
    if (!details.failed) return null
    const because = details.errorInstance instanceof Error ? details.errorInstance.stack : String(details.errorInstance)
    return `${fc.defaultReportMessage(details)}\n${because ?? ''}`
  }
  try {
    const first = Math.max(1, Math.ceil(runs / 3))
    let problem = await some(first, seed)
    const before = heldMiB()
    problem ??= await some(Math.max(1, runs - first), seed + 1)
    const grownMiB = Math.max(0, heldMiB() - before)
    await close?.()
    if (problem === null && grownMiB > mostGrownMiB) problem = `${Math.round(grownMiB)} MiB more are held after ${runs} inputs than after the first ${first}`
    return { runs, seed, problem, grownMiB }
  } finally {
    await watchdog.stop()
  }
}

function heldMiB(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return (heapUsed + external) / 1024 / 1024
}

interface Watchdog {
  beat(): void
  stop(): Promise<unknown>
}

/** A thread of its own: an input that never ends lets nothing else of this one run. */
function startWatchdog(name: string, seed: number): Watchdog {
  const beats = new Int32Array(new SharedArrayBuffer(4))
  const source = `
    const { workerData: { beats, hangMs, told } } = require('node:worker_threads')
    let last = -1
    setInterval(() => {
      const now = Atomics.load(beats, 0)
      if (now === last && now > 0) { require('node:fs').writeSync(2, told); process.kill(process.pid, 'SIGKILL') }
      last = now
    }, hangMs)`
  const worker = new Worker(source, { eval: true, workerData: { beats, hangMs, told: `fuzz: an input for "${name}" is not done after ${hangMs / 1000} s (seed ${seed})\n` } })
  worker.on('error', (error) => writeSync(2, `${String(error)}\n`))
  worker.unref()
  return { beat: () => void Atomics.add(beats, 0, 1), stop: () => worker.terminate() }
}
