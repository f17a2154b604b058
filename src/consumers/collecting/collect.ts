import { setTimeout as delay } from 'node:timers/promises'
import { readCommitFiles } from '../../git/commit-files.js'
import { counted } from '../../job/counted.js'
import { literalPart, NamedPaths } from '../../job/artifact-patterns.js'
import { nothingCollected, type Collected, type MissedArtifact } from '../../job/artifacts.js'
import { artifactFolder, workBranch } from '../../job/names.js'
import { FenceLostError, InfrastructureError, attributed, errorMessage } from '../../job/errors.js'
import { isUnavailability } from '../../store/index.js'
import type { RunContext } from '../run-context.js'
import { Collection } from './collection.js'

/**
 * Collects a job's artifacts, once it is certain how the job ends and before its sandbox is killed:
 *
 *   from the sandbox ──► recorded
 *     └── it is gone, or does not answer ──► from the last checkpoint, what the sandbox had not given ──► recorded
 *
 * Recorded in one write when all is done, so a consumer that takes over before begins again: the same files go to the same names. Nothing here fails the
 * job or loses its work: what can't be had is listed with why. It takes `consumer.artifactsTimeoutMs` at most.
 */
export async function collectArtifacts(ctx: RunContext): Promise<void> {
  const patterns = ctx.spec.artifacts ?? []
  if (patterns.length === 0 || ctx.record.collected !== null) return
  const { now, settings } = ctx.shared
  const store = ctx.shared.artifacts
  if (store === null) return conclude(ctx, 'no store', missedAll(patterns, 'no artifact store is configured at the consumer; set "artifacts" there', 'consumer-configuration'))
  if (ctx.record.base === null) return conclude(ctx, store.name, missedAll(patterns, 'the job ended before it had a repository', ctx.record.outcome?.error?.owner ?? 'job'))
  await ctx.update({}, waitsFor)
  const untilMs = now() + settings.artifactsTimeoutMs
  const leftMs = () => Math.max(1, untilMs - now())
  const time = AbortSignal.timeout(settings.artifactsTimeoutMs)
  const collection = new Collection({
    store,
    folder: artifactFolder(ctx.record),
    mask: (text) => ctx.secrets.patterns.mask(text),
    confirmHeld: async () => {
      await ctx.update({}, waitsFor)
      ctx.assertHeld()
    },
    signal: AbortSignal.any([ctx.leave, time]),
    leftMs,
  })
  const parts: CollectParts = { ctx, patterns, collection, signal: AbortSignal.any([ctx.leave, time]), leftMs, found: new Set() }
  try {
    const lost = await fromSandbox(parts)
    if (lost !== null) await fromCheckpoint(parts, lost)
    await collection.settle()
  } catch (error) {
    if (ctx.leave.aborted || error instanceof FenceLostError || isUnavailability(error)) throw error
    const reason = time.aborted ? `the time to store artifacts was up (consumer.artifactsTimeoutMs, ${settings.artifactsTimeoutMs} ms)` : `a defect in Switchyard: ${errorMessage(error)}`
    for (const pattern of patterns) collection.miss(pattern, reason, 'deployment')
  }
  await conclude(ctx, store.name, collection.collected)
}

const waitsFor = 'storing the artifacts'

interface CollectParts {
  readonly ctx: RunContext
  readonly patterns: readonly string[]
  readonly collection: Collection
  readonly signal: AbortSignal
  readonly leftMs: () => number
  /** The patterns for which there was something. */
  readonly found: Set<string>
}

/** Why the sandbox gave nothing, or not all. */
interface Lost {
  readonly reason: string
  readonly owner: MissedArtifact['owner']
}

const passing: readonly string[] = ['transient', 'timeout', 'rate-limited', 'provider-down']
const sandboxTries = 3

/** @returns why the rest is to be had elsewhere; null when all that the sandbox has was collected. */
async function fromSandbox(parts: CollectParts): Promise<Lost | null> {
  const { ctx, signal } = parts
  const { sandbox } = ctx.record
  if (sandbox === null || sandbox.repositoryPath === null) return { reason: 'the job had no sandbox in the end', owner: ctx.record.outcome?.error?.owner ?? 'sandbox' }
  for (let tries = 1; ; tries++) {
    try {
      await readSandbox(parts)
      return null
    } catch (error) {
      if (signal.aborted || !(error instanceof InfrastructureError)) throw error
      const { owner } = attributed(error, 'exec')
      // What is on its way to the store counts.
      await parts.collection.settle()
      if (!passing.includes(error.kind) || tries === sandboxTries) return { reason: error.message, owner }
      await delay(500 * tries, undefined, { signal })
    }
  }
}

async function readSandbox({ ctx, patterns, collection, signal, leftMs, found }: CollectParts): Promise<void> {
  const { runner } = ctx.sandbox()
  const { settings, artifacts } = ctx.shared
  const most = artifacts?.limits.maxFiles ?? 1
  // A listing that is never answered leaves the time for another.
  const listing = await runner.listArtifacts({ patterns, most }, { timeoutMs: Math.min(Math.ceil(leftMs() / 2), settings.gitTimeoutMs), signal })
  const named = new NamedPaths(patterns, signal)
  const note = async (path: string) => {
    for (const pattern of [...(await named.patternsOf(path)), ...patterns.filter((each) => each.startsWith(path))]) found.add(pattern)
  }
  for (const { path, reason } of listing.odd) {
    await note(path)
    collection.miss(path, reason, 'job')
  }
  for (const { path } of listing.files) await note(path)
  if (listing.more) collection.miss(patterns.join(', '), `more than ${most} files are named, and no more are stored of a job (artifacts.maxFiles at the consumer)`, 'job')
  if (listing.unfinished) collection.miss(patterns.join(', '), 'there are more files in the sandbox than could be looked at in time; name folders that hold less', 'job')
  const missing = patterns.filter((pattern) => !found.has(pattern))
  if (!listing.more && !listing.unfinished) for (const pattern of missing) collection.miss(pattern, nothingMatches(ctx), 'job')
  await runner.readArtifacts(
    collection.admit(listing.files),
    async (file, pieces) => {
      if (pieces === null) collection.miss(file.path, 'it was gone, or no regular file any more, when it was to be read', 'job')
      else await collection.take(file, pieces, 'sandbox')
    },
    { timeoutMs: leftMs(), signal },
  )
}

function nothingMatches({ record: { attempts, restart } }: RunContext): string {
  const moved = attempts.slice(restart?.attemptsBefore ?? 0).some(({ outcome }) => outcome === 'lost' || outcome === 'moved')
  return moved
    ? 'nothing in the last sandbox matches it; an earlier one is gone, and files that git ignores move along only where checkpoint.paths names them'
    : 'nothing matches it'
}

/** What the work's branch, or else the last checkpoint, holds. */
async function fromCheckpoint({ ctx, patterns, collection, signal, leftMs, found }: CollectParts, lost: Lost): Promise<void> {
  const { git, settings, artifacts } = ctx.shared
  const { record, spec } = ctx
  const saved = ctx.savedCommit()
  const commits = [
    // Of the job's own branch its files are newer; of the checkpoint there is besides what checkpoint.paths names.
    ...(record.pushed && record.finalCommit !== null ? [{ sha: record.finalCommit, ref: `refs/heads/${workBranch(record)}`, ephemeral: git.ephemeral, statePaths: [] }] : []),
    { ...saved, statePaths: record.checkpoint?.holdsPaths === true ? (spec.checkpoint.paths ?? []).filter((path) => !path.startsWith('~/')) : [] },
  ]
  const gone = `the sandbox is gone or does not answer (${lost.reason})`
  try {
    for (const { sha, ref, ephemeral, statePaths } of commits) {
      const access = await git.readAccess(spec.repository, { ephemeral })
      ctx.secrets.patterns.addPassing(access.token)
      const named = new NamedPaths(patterns, signal)
      const wants = async (path: string) => (await named.has(path)) && !collection.has(path)
      const { more } = await readCommitFiles(
        git.name,
        access,
        { sha, ref, within: patterns.map(literalPart), wants, most: artifacts?.limits.maxFiles ?? 1, statePaths },
        { timeoutMs: Math.min(leftMs(), settings.gitTimeoutMs), signal },
        {
          odd: (path, reason) => collection.miss(path, reason, 'job'),
          admit: async (files) => {
            for (const { path } of files) for (const pattern of await named.patternsOf(path)) found.add(pattern)
            return collection.admit(files)
          },
          take: (file, pieces) => collection.take(file, pieces, 'checkpoint'),
        },
      )
      if (more) collection.miss(patterns.join(', '), 'not all files of the last checkpoint that are named could be stored', 'job')
      await collection.settle()
    }
  } catch (error) {
    if (signal.aborted || !(error instanceof InfrastructureError)) throw error
    for (const pattern of patterns) collection.miss(pattern, `${gone}, and its last checkpoint can’t be read: ${error.message}`, attributed(error, 'git').owner)
    return
  }
  for (const pattern of patterns) {
    const reason = found.has(pattern) ? 'so only what its last checkpoint held is stored' : 'and its last checkpoint holds nothing that this names'
    collection.miss(pattern, `${gone}, ${reason}; files that git ignores are in it only where checkpoint.paths names them`, lost.owner)
  }
}

function missedAll(patterns: readonly string[], reason: string, owner: MissedArtifact['owner']): Collected {
  return { ...nothingCollected, artifactsMissed: patterns.map((path) => ({ path, reason, owner })) }
}

async function conclude(ctx: RunContext, where: string, collected: Collected): Promise<void> {
  await ctx.update({ collected })
  const { artifacts, artifactsMissed, artifactsMissedMore, tests } = collected
  const bytes = artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const missed = artifactsMissed.length + artifactsMissedMore
  const told = [
    `artifacts: ${counted(artifacts.length, 'file')} (${counted(bytes, 'byte')}) stored in ${where}`,
    ...(missed === 0 ? [] : [`${missed} could not be had, such as ${artifactsMissed[0]?.path ?? ''}: ${artifactsMissed[0]?.reason ?? ''}`]),
    ...(tests === null ? [] : [`tests: ${tests.tests} run, ${tests.failures + tests.errors} failed, ${tests.skipped} skipped`]),
  ]
  await ctx.say(told.join('; '))
}
