import { existsSync } from 'node:fs'
import { rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseConfig } from '../../config/load.js'
import { subscribe } from '../../events/index.js'
import { errorMessage } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { JobStatus } from '../../job/status.js'
import type { AgentQueue } from '../../producers/index.js'
import { closeInTurn } from '../close-in-turn.js'
import { killSandboxes } from '../kill-sandboxes.js'
import { createLogger } from '../logger.js'
import { localWebhooks, startLocalStack } from '../local-stack.js'
import { openBoard } from '../open-board.js'
import { openQueue } from '../open-queue.js'
import { counted } from '../output.js'
import { seedRepository } from '../seed-repository.js'
import { startConsumer } from '../start-consumer.js'
import { aborted } from '../stop-signal.js'
import { claimDevFolder, type DevFolder, type Origin } from './dev-folder.js'
import { leftDataDir, ReturnedWork } from './returned-work.js'
import { saveRunning } from './save-running.js'
import type { DevSecrets } from './secrets.js'

export interface RunningDev {
  readonly config: string
  readonly codeStorage: string
  /** The same by https, and the file with its certificate. */
  readonly https?: { readonly url: string; readonly certificateFile: string } | undefined
  readonly board: string
}

export interface DevOptions {
  /** The folder in which `.switchyard` is made: the top of the checkout, so that all of it finds it. */
  readonly top: string
  readonly seeds: readonly { readonly repository: string; readonly source: string }[]
  readonly secrets: DevSecrets
  readonly sandboxes: number
  readonly boardPort: number
  /** Whether the Code Storage serves https as well, with a certificate of its own. */
  readonly https: boolean
  /** Everything is stopped and removed when it aborts. */
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  readonly onRunning: (running: RunningDev) => void
}

/**
 * Runs everything that a job needs in the folder's `.switchyard/dev` until the signal comes. What jobs made goes to the checkouts that their
 * repositories are from, or is kept, and nothing else is left.
 * @throws InvalidInputError when another one runs in this folder, or a repository can't be read.
 */
export async function runDev(options: DevOptions): Promise<void> {
  const { signal, say, secrets } = options
  const claimed = await claimDevFolder(options.top, options.seeds)
  const folder = claimed.path
  const closers: (() => Promise<void>)[] = [() => claimed.release()]
  try {
    const { boardPort, sandboxes, https } = options
    // Beside what goes with it: they are the user's.
    const artifacts = join(dirname(folder), 'artifacts')
    closers.push(() => keepArtifacts(artifacts, say))
    const providers = [{ name: 'local', type: 'local', limit: { sandboxes }, stateDir: join(folder, 'sandboxes') }]
    await cleanUpAfter(claimed, providers, say)
    const stack = await startLocalStack({ folder, deployment: 'dev', providers, boardPort, https, artifacts })
    closers.push(() => stack.close())
    const webhooks = localWebhooks(secrets.environment)
    const config = parseConfig({ ...stack.config, webhooks, consumer: { secrets: [...secrets.names] } })
    const origins: Origin[] = []
    for (const { repository, source } of options.seeds) {
      signal.throwIfAborted()
      const { commits, head, uncommitted } = await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, repository, source)
      origins.push({ repository, source, head })
      say(`repository ${repository}: ${counted(commits, 'commit')} of ${source}${uncommitted === 0 ? '' : `; ${counted(uncommitted, 'path')} with uncommitted changes ${uncommitted === 1 ? 'is' : 'are'} left out: commit them, and start again`}`)
    }
    await claimed.note(origins)
    if (secrets.said !== undefined) say(`secrets: ${secrets.said}`)
    signal.throwIfAborted()
    const work = new ReturnedWork({ dataDir: leftDataDir(folder), origins, kept: claimed.kept, say, nowMs: Date.now })
    const queue = openQueue(config)
    closers.push(() => queue.close())
    let unended: readonly JobStatus[] = []
    closers.push(async () => {
      const jobs = await stillUnended(queue, unended)
      const left = await saveRunning(jobs, { providers, dataDir: leftDataDir(folder), folder, say })
      sayUnended(jobs, left, await work.rest(), say)
    })
    const consumer = await startConsumer(config, { directory: process.cwd(), environment: secrets.environment, log: createLogger('warn') })
    closers.push(() => consumer.stop())
    const ends = subscribe(config.redis, 'dev', ({ data }) => work.ended(data), { prefix: config.queue.prefix, attempts: 3, onError: (error) => say(`what a job made was not fetched: ${errorMessage(error)}`) })
    closers.push(() => ends.close())
    // Those that are under way now are told of in the end.
    closers.push(async () => void (unended = await unendedJobs(queue)))
    const { board, close } = await openBoard(config, {})
    closers.push(close)
    // Last, so that whoever finds it finds everything running. It holds Redis' password: for this user alone.
    const path = join(folder, 'switchyard.config.json')
    await writeFile(path, `${JSON.stringify({ ...stack.config, webhooks, consumer: { secrets: secrets.names } }, null, 2)}\n`, { mode: 0o600 })
    options.onRunning({ config: path, codeStorage: stack.codeStorage.url, https: stack.codeStorage.https, board: board.loginUrl })
    await aborted(signal)
    say('stopping')
  } finally {
    await closeInTurn(closers)
  }
}

/** Ends what a `dev` that was killed has left running, and brings or keeps what its jobs made. */
async function cleanUpAfter({ path, left, kept }: DevFolder, providers: { name: string; type: string; limit: { sandboxes: number }; stateDir: string }[], say: (line: string) => void): Promise<void> {
  if (left === undefined) return
  say('cleaning up after a dev that was killed')
  // They know each other by the folder that was theirs.
  const theirs = providers.map((entry) => ({ ...entry, stateDir: entry.stateDir.replace(path, left.path) }))
  await killSandboxes(theirs, { deployment: 'dev' })
  await new ReturnedWork({ dataDir: leftDataDir(left.path), origins: left.origins, kept, say, nowMs: Date.now }).rest()
  await rm(left.path, { recursive: true, force: true, maxRetries: 5 })
}

/** At most this many are named. */
const namedJobs = 20

async function unendedJobs(queue: AgentQueue): Promise<JobStatus[]> {
  const [running, waiting] = await Promise.all([queue.list({ state: 'running', limit: namedJobs }), queue.list({ state: 'waiting', limit: namedJobs })])
  return [...running, ...waiting]
}

/** Some may have ended while the rest was stopped. */
async function stillUnended(queue: AgentQueue, jobs: readonly JobStatus[]): Promise<JobStatus[]> {
  const now = await queue.statuses(jobs.map(({ jobId }) => jobId))
  return now.flatMap((status) => (status === null || status.result !== null ? [] : [status]))
}

/**
 * @param left the commits of what the jobs had, by job.
 * @param places where commits are.
 */
function sayUnended(jobs: readonly JobStatus[], left: ReadonlyMap<string, string>, places: ReadonlyMap<string, string>, say: (line: string) => void): void {
  for (const { jobId, state, checkpointSha } of jobs) {
    const [work, checkpoint] = [left.get(jobId), checkpointSha].map((commit) => places.get(commit ?? ''))
    const found = [...(work === undefined ? [] : [`what it had is ${work}`]), ...(checkpoint === undefined ? [] : [`its last checkpoint is ${checkpoint}`])]
    const where = ['had not ended', ...(found.length === 0 ? ['and had made nothing'] : found)].join(', ')
    say(`job ${harmlessLine(jobId)} ${state === 'waiting' ? 'had not begun' : where}; it does not go on, enqueue it again`)
  }
}

/** What jobs left stays; a folder without any goes. */
async function keepArtifacts(folder: string, say: (line: string) => void): Promise<void> {
  for (const each of [join(folder, '.incoming'), folder]) await rmdir(each).catch(() => undefined)
  if (existsSync(folder)) say(`artifacts of jobs are kept in ${folder}`)
}
