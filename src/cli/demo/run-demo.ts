import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseConfig } from '../../config/load.js'
import type { Config } from '../../config/schema.js'
import { subscribe, type CompletionEvent } from '../../events/index.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { JobResult } from '../../job/result.js'
import type { AgentQueue, JobHandle } from '../../producers/index.js'
import { openBoard } from '../open-board.js'
import { counted } from '../output.js'
import { closeInTurn } from '../close-in-turn.js'
import { createLogger } from '../logger.js'
import { startLocalStack, type LocalStack } from '../local-stack.js'
import { openQueue } from '../open-queue.js'
import { resultReport } from '../report.js'
import { seedRepository } from '../seed-repository.js'
import { startConsumer } from '../start-consumer.js'
import { aborted } from '../stop-signal.js'
import { demoJobs, eventComplaints, type Cast, type DemoJob } from './jobs.js'
import { allLines, failoverReport, strikeInTheMiddle } from './outage.js'
import { startProgress, type Progress } from './progress.js'
import { startProtocolServers } from './protocol-servers.js'
import { useRealServices } from './real-services.js'
import type { Services } from './services.js'
import { localStage, type Stage } from './stage.js'

export interface DemoOptions {
  /** The folder whose history becomes the demo's repository: Switchyard's own, which holds the protocol servers when it is a checkout. */
  readonly source: string
  /** What plays the providers. */
  readonly services: Services
  /** The configuration that the services are taken from, when they are real. */
  readonly configPath?: string | undefined
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
  readonly services: Services['kind']
  readonly jobs: readonly JobResult[]
  readonly events: readonly CompletionEvent[]
  /** Without the password. */
  readonly redis: string
  readonly codeStorage: string
  /** What did not come out as intended. */
  readonly complaints: readonly string[]
}

const pollMs = 200
const callTimeoutMs = 30_000
/** The services build images and are far away. */
const patience = { local: { job: '2m', allMs: 180_000 }, 'protocol servers': { job: '3m', allMs: 240_000 }, real: { job: '20m', allMs: 1_500_000 } }

/**
 * Starts everything, runs the jobs, reports, and leaves nothing behind.
 * @throws the signal's reason when it was stopped; SwitchyardError when something could not be started.
 */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { signal, source, services } = options
  const progress = startProgress(options.output)
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-demo-'))
  const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true, maxRetries: 5 })]
  try {
    const stage = await openStage(options, folder)
    closers.push(() => stage.close())
    signal.throwIfAborted()
    const { environment, directory } = stage
    const run = randomBytes(4).toString('hex')
    const deployment = services.kind === 'real' ? `demo-${run}` : 'demo'
    const stack = await startLocalStack({ folder, deployment, providers: stage.entries, environment, directory, codeStorage: stage.codeStorage, boardPort: 0 })
    closers.push(() => stack.close())
    signal.throwIfAborted()
    const config = parseConfig(stack.config)
    const cast: Cast = {
      repository: services.kind === 'real' ? `switchyard-demo-${run}` : 'demo/switchyard',
      providers: stage.entries.map(({ name }) => name),
      full: stage.full,
      everywhere: services.kind !== 'local',
      timeout: patience[services.kind].job,
    }
    // Before it is made: whatever has come of it is removed, since at a service it would stay.
    if (services.kind === 'real') {
      closers.push(async () => {
        await stack.git.client.deleteRepository(cast.repository, { timeoutMs: callTimeoutMs })
      })
    }
    const seeded = await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, cast.repository, source)
    progress.say(`Redis and ${stage.codeStorage === undefined ? 'a local Code Storage' : `Code Storage at ${stack.codeStorage.url}`}; repository ${cast.repository} with ${counted(seeded.commits, 'commit')} of ${source}`)
    progress.say(`Providers: ${stage.says}`)
    signal.throwIfAborted()
    const consumer = await startConsumer(config, { directory: directory ?? folder, environment: { ...environment }, log: createLogger('error') })
    closers.push(() => consumer.stop())
    const queue = openQueue(config)
    closers.push(() => queue.close())

    const report = await runJobs({ stage, stack, config, cast, queue, progress, signal })
    options.onReport(report)
    if (options.keep) await keepUp(config, folder, progress, signal)
    return report
  } finally {
    await closeInTurn(closers)
  }
}

function openStage({ services, source, signal, configPath }: DemoOptions, folder: string): Promise<Stage> | Stage {
  switch (services.kind) {
    case 'local':
      return localStage(folder)
    case 'protocol servers':
      return startProtocolServers(services, { checkout: source, folder, signal })
    case 'real':
      return useRealServices(services, { configPath, folder, environment: process.env })
  }
}

interface Parts {
  readonly stage: Stage
  readonly stack: LocalStack
  readonly config: Config
  readonly cast: Cast
  readonly queue: AgentQueue
  readonly progress: Progress
  readonly signal: AbortSignal
}

async function runJobs(parts: Parts): Promise<DemoReport> {
  const { stage, stack, config, cast, queue, progress, signal } = parts
  const events: CompletionEvent[] = []
  const subscription = subscribe(config.redis, 'demo', (event) => void events.push(event), { prefix: config.queue.prefix })
  try {
    const running: { job: DemoJob; handle: JobHandle }[] = []
    for (const job of demoJobs(cast)) {
      running.push({ job, handle: await queue.enqueue(job.spec) })
      progress.say(`${`${job.key} `.padEnd(10)}${job.shows}`)
    }
    const ended = new AbortController()
    const until = AbortSignal.any([signal, ended.signal])
    const waiting = running.map(({ handle }) => handle.result({ timeoutMs: patience[stage.services].allMs, signal }))
    const failover = running.findIndex(({ job }) => job.key === 'failover')
    // Whoever waits for them hears of a failure by `waiting`.
    const others = Promise.allSettled(waiting.filter((_, index) => index !== failover))
    const [results] = await Promise.all([
      Promise.all(waiting).finally(() => ended.abort()),
      watch(running, progress, until),
      running[failover] === undefined ? undefined : strikeInTheMiddle(running[failover].handle, { stage, config, progress, others, until }),
    ])
    await show(running, progress)
    await waitUntil(() => results.every((result) => events.some((event) => event.subject === result.jobId)), signal)

    const complaints = eventComplaints(results, events)
    for (const [index, { job, handle }] of running.entries()) {
      const result = results[index]
      if (result === undefined) continue
      const lines = await allLines(handle)
      const target = await stack.git.branchHead(cast.repository, { name: job.target, ephemeral: false }, { timeoutMs: callTimeoutMs })
      const own = job.complaints({ result, lines, target })
      complaints.push(...own.map((complaint) => `${job.key}: ${complaint}`))
      progress.say(`\n${job.key} (${result.jobId}): ${own.length === 0 ? 'as intended' : `NOT as intended: ${harmlessLine(own.join('; '))}`}\n${resultReport(result)}`)
      if (job.key === 'failover') progress.say(failoverReport(lines))
    }
    progress.say(`\nCompletion events`)
    for (const event of events) progress.say(`  ${event.time}  ${event.type}  ${event.id}`)
    if (stage.services !== 'local') progress.say(`\nProviders: ${stage.says}`)
    const redis = new URL(config.redis.url ?? '')
    return { services: stage.services, jobs: results, events, redis: `redis://${redis.host}`, codeStorage: stack.codeStorage.url, complaints }
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

async function keepUp(config: Config, folder: string, progress: Progress, signal: AbortSignal): Promise<void> {
  const { board, close } = await openBoard(config, {})
  const path = join(folder, 'switchyard.config.json')
  await writeFile(path, JSON.stringify({ ...config, consumer: undefined }), { mode: 0o600 })
  progress.say(`\nBull Board: ${board.loginUrl}\nOther commands: export SWITCHYARD_CONFIG=${path}\nCtrl-C stops everything.`)
  await aborted(signal)
  await close()
}

async function waitUntil(condition: () => boolean, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition() && Date.now() < deadline) await sleep(50, undefined, { signal })
}
