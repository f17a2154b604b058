import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createProviders } from '../../config/providers.js'
import { parseConfig } from '../../config/load.js'
import type { Config } from '../../config/schema.js'
import { subscribe, type CompletionEvent } from '../../events/index.js'
import type { LogLine } from '../../job/log.js'
import type { JobResult } from '../../job/result.js'
import type { AgentQueue, JobHandle } from '../../producers/index.js'
import { openBoard } from '../open-board.js'
import { closeInTurn } from '../close-in-turn.js'
import { createLogger } from '../logger.js'
import { startLocalStack, type LocalStack } from '../local-stack.js'
import { openQueue } from '../open-queue.js'
import { resultReport } from '../report.js'
import { seedRepository } from '../seed-repository.js'
import { startConsumer } from '../start-consumer.js'
import { aborted } from '../stop-signal.js'
import { demoJobs, demoProviders, demoRepository, eventComplaints, outputOf, partNumbers, partsBeforeKill, type DemoJob } from './jobs.js'
import { startProgress, type Progress } from './progress.js'

export interface DemoOptions {
  /** The folder whose history becomes the demo's repository. */
  readonly source: string
  /** Keep everything up until the signal comes. */
  readonly keep: boolean
  /** Where progress and reports go. */
  readonly output: NodeJS.WriteStream
  /** Called once everything is known, before anything is torn down. */
  readonly onReport: (report: DemoReport) => void
  /** Ends the demo early; everything is torn down all the same. */
  readonly signal: AbortSignal
}

export interface DemoReport {
  readonly jobs: readonly JobResult[]
  readonly events: readonly CompletionEvent[]
  /** Without the password. */
  readonly redis: string
  readonly codeStorage: string
  /** What did not come out as intended. */
  readonly complaints: readonly string[]
}

const pollMs = 200
const patienceMs = 180_000

/**
 * Starts everything, runs the three jobs, reports, and leaves nothing behind.
 * @throws the signal's reason when it was stopped; SwitchyardError when something could not be started.
 */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { signal, source } = options
  const progress = startProgress(options.output)
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-demo-'))
  const closers: (() => Promise<void>)[] = []
  try {
    const stack = await startLocalStack({
      folder,
      deployment: 'demo',
      providers: { [demoProviders.first]: 2, [demoProviders.second]: 2 },
      boardPort: 0,
    })
    closers.push(() => stack.close())
    signal.throwIfAborted()
    const config = parseConfig(stack.config)
    const seeded = await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, demoRepository, source)
    progress.say(`Redis, a local Code Storage, two local providers; repository ${demoRepository} with ${seeded.commits} commits of ${source}`)
    signal.throwIfAborted()
    const consumer = await startConsumer(config, { directory: folder, environment: process.env, log: createLogger('error') })
    closers.push(() => consumer.stop())
    const queue = openQueue(config)
    closers.push(() => queue.close())

    const report = await runJobs({ stack, config, queue, progress, signal })
    options.onReport(report)
    if (options.keep) await keepUp(config, folder, progress, signal)
    return report
  } finally {
    await closeInTurn(closers)
  }
}

interface Parts {
  readonly stack: LocalStack
  readonly config: Config
  readonly queue: AgentQueue
  readonly progress: Progress
  readonly signal: AbortSignal
}

async function runJobs(parts: Parts): Promise<DemoReport> {
  const { stack, config, queue, progress, signal } = parts
  const events: CompletionEvent[] = []
  const subscription = subscribe(config.redis, 'demo', (event) => void events.push(event), { prefix: config.queue.prefix })
  try {
    const running: { job: DemoJob; handle: JobHandle }[] = []
    for (const job of demoJobs) {
      running.push({ job, handle: await queue.enqueue(job.spec) })
      progress.say(`${job.key.padEnd(10)}${job.shows}`)
    }
    const ended = new AbortController()
    const until = AbortSignal.any([signal, ended.signal])
    const failover = running.find(({ job }) => job.key === 'failover')?.handle
    const [results] = await Promise.all([
      Promise.all(running.map(({ handle }) => handle.result({ timeoutMs: patienceMs, signal }))).finally(() => ended.abort()),
      watch(running, progress, until),
      failover === undefined ? undefined : killInTheMiddle(failover, parts, until),
    ])
    await show(running, progress)
    await waitUntil(() => results.every((result) => events.some((event) => event.subject === result.jobId)), signal)

    const complaints = eventComplaints(results, events)
    for (const [index, { job, handle }] of running.entries()) {
      const result = results[index]
      if (result === undefined) continue
      const lines = await allLines(handle)
      const target = await stack.git.branchHead(demoRepository, { name: job.target, ephemeral: false }, { timeoutMs: 30_000 })
      const own = job.complaints({ result, lines, target })
      complaints.push(...own.map((complaint) => `${job.key}: ${complaint}`))
      progress.say(`\n${job.key} (${result.jobId}): ${own.length === 0 ? 'as intended' : `NOT as intended: ${own.join('; ')}`}\n${resultReport(result)}`)
      if (job.key === 'failover') progress.say(failoverReport(lines))
    }
    progress.say(`\nCompletion events`)
    for (const event of events) progress.say(`  ${event.time}  ${event.type}  ${event.id}`)
    const redis = new URL(config.redis.url)
    return { jobs: results, events, redis: `redis://${redis.host}`, codeStorage: stack.codeStorage.url, complaints }
  } finally {
    await subscription.close()
  }
}

type Running = readonly { readonly job: DemoJob; readonly handle: JobHandle }[]

async function watch(running: Running, progress: Progress, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    await show(running, progress)
    await sleep(pollMs, undefined, { signal: until }).catch(() => undefined)
  }
}

async function show(running: Running, progress: Progress): Promise<void> {
  const jobs = await Promise.all(running.map(async ({ job, handle }) => ({ name: job.key, status: await handle.status() })))
  progress.show(jobs, Date.now())
}

/** Kills the job's sandbox behind the consumer's back, once some of the second step's work is in a checkpoint. */
async function killInTheMiddle(handle: JobHandle, parts: Parts, until: AbortSignal): Promise<void> {
  let before: string | null | undefined
  while (!until.aborted) {
    const { step, checkpointSha, provider, sandboxId } = await handle.status()
    if (step?.startsWith('2/') === true && sandboxId !== null && provider !== null) {
      // The checkpoint that the first step left; the next one holds work of the second.
      before ??= checkpointSha
      const made = partNumbers(outputOf(await allLines(handle), 'work')).length
      if (made >= partsBeforeKill && checkpointSha !== before) {
        const own = (await createProviders(parts.config.providers)).find((configured) => configured.provider.name === provider)
        if (own === undefined) throw new Error(`no provider ${provider}`)
        await own.provider.kill(sandboxId, { timeoutMs: 30_000 })
        await own.provider.close()
        parts.progress.say(`failover  its sandbox ${sandboxId} was killed from outside after ${made} parts`)
        return
      }
    }
    await sleep(pollMs, undefined, { signal: until }).catch(() => undefined)
  }
}

/** What shows that the job went on and did not start again. */
function failoverReport(lines: readonly LogLine[]): string {
  const times = outputOf(lines, 'prepare').trimEnd().split('\n').length
  return [
    `            its first step ran ${times === 1 ? 'once' : `${times} times`}; what the third one found in the work tree:`,
    outputOf(lines, 'report').trimEnd().replace(/^/gm, '            | '),
  ].join('\n')
}

async function allLines(handle: JobHandle): Promise<LogLine[]> {
  const lines: LogLine[] = []
  for await (const line of handle.logs({ follow: false })) lines.push(line)
  return lines
}

async function keepUp(config: Config, folder: string, progress: Progress, signal: AbortSignal): Promise<void> {
  const { board, close } = await openBoard(config, {})
  const path = join(folder, 'switchyard.config.json')
  await writeFile(path, JSON.stringify({ ...config, consumer: undefined }), { mode: 0o600 })
  progress.say(`\nBull Board: ${board.url}\nOther commands: export SWITCHYARD_CONFIG=${path}\nCtrl-C stops everything.`)
  await aborted(signal)
  await close()
}

async function waitUntil(condition: () => boolean, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition() && Date.now() < deadline) await sleep(50, undefined, { signal })
}
