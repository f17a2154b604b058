import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { EventKind } from '../../job/event-kinds.js'
import { errorMessage, NewerReleaseError } from '../../job/errors.js'
import type { Provider, SandboxInfo } from '../../providers/provider.js'
import type { Metrics } from '../../telemetry/metrics.js'
import { untilAborted, type BoundSlot, type Reaping, type ReapMemory, type RunStore, type SlotOwners } from '../../store/index.js'
import { endForgottenRun } from '../ending/forgotten-run.js'
import { judgeSandbox, judgeSlot, remember, type FoundRun, type JudgedSandbox, type Surroundings } from './reap-decision.js'

export interface ReapParts {
  readonly deployment: string
  readonly store: RunStore
  readonly owners: SlotOwners
  readonly reaping: Reaping
  readonly callTimeoutMs: number
  /** Sandboxes that nobody owns are left alone until they are this old. */
  readonly graceMs: number
  /** How long the branches of ended jobs are kept. */
  readonly branchRetentionMs: number
  /** What is told of all jobs besides their end. */
  readonly eventTypes?: readonly EventKind[] | undefined
  readonly log: Logger
  readonly metrics?: Metrics | undefined
  /** Milliseconds since 1970. */
  readonly now: () => number
  readonly signal: AbortSignal
  /** Told as a round goes on: each page or batch of it is bounded, not the whole. */
  readonly onTurn?: (() => void) | undefined
}

/** A sandbox as a round leaves it. */
export interface ReapedSandbox extends JudgedSandbox {
  readonly provider: string
  /** Over all rounds. */
  readonly failedKills: number
  /** Of the last kill that failed. */
  readonly lastError: string | null
  readonly killed: boolean
}

export interface ReapRound {
  readonly provider: string
  readonly sandboxes: readonly ReapedSandbox[]
  /** Sandboxes of the same account that are not this deployment's; null when they could not be listed. */
  readonly foreign: number | null
  /** How many places were freed whose owners were gone. */
  readonly freedPlaces: number
  /** Why nothing was done; null when the listing was complete. */
  readonly problem: string | null
}

const killsAtOnce = 8

/** Makes one round at a provider: says what is there, and unless told to only look, kills what nobody owns and frees what nobody needs. */
export async function reapRound(parts: ReapParts, provider: Provider, options: { memory: ReapMemory; claim: (() => Promise<boolean>) | null }): Promise<{ round: ReapRound; memory: ReapMemory | null }> {
  const { store, owners, log, signal, now } = parts
  const name = provider.name
  const listedAtMs = now()
  let listing: { own: SandboxInfo[]; foreign: SandboxInfo[] | null }
  try {
    listing = await listAll(parts, provider)
  } catch (error) {
    signal.throwIfAborted()
    const problem = `the sandboxes could not be listed, so none is killed: ${errorMessage(error)}`
    log.warn({ provider: name, message: errorMessage(error) }, 'sandboxes not listed; none is reaped')
    return { round: { provider: name, sandboxes: [], foreign: null, freedPlaces: 0, problem }, memory: null }
  }
  const { atMs, slots } = await untilAborted(owners.bound(name), signal)
  // What came to be since the listing may be missing in it.
  const sinceListingMs = Math.max(now() - listedAtMs, 0)
  const jobIds = [...listing.own.map(({ tags }) => tags['switchyard-job']), ...slots.map(({ owner }) => (owner.kind === 'sandbox' ? undefined : owner.runId))]
  const runs = await findRuns(store, [...new Set(jobIds.filter((jobId) => jobId !== undefined))], signal)
  const givenUp = new Set(slots.flatMap(({ owner }) => (owner.kind === 'sandbox' ? [owner.sandboxId] : [])))
  const around: Surroundings = { provider: name, deployment: parts.deployment, runs, memory: options.memory, givenUp, graceMs: parts.graceMs, now: now(), atMs }
  const judged = [...listing.own, ...(listing.foreign ?? [])].map((info) => judgeSandbox(info, around))

  const failures = new Map<string, string>()
  const killed = new Set<string>()
  let freedPlaces = 0
  let waiting: string[] = []
  if (options.claim !== null) {
    await killOrphans(parts, provider, judged, { failures, killed, claim: options.claim })
    const alive = listing.own.filter(({ id }) => !killed.has(id))
    const verdicts = slots.map((slot) => ({ slot, verdict: judgeSlot(slot, alive, sinceListingMs, around) }))
    waiting = verdicts.flatMap(({ slot, verdict }) => (verdict === 'waits' && slot.owner.kind === 'job' ? [slot.leaseId] : []))
    for (const { slot, verdict } of verdicts) {
      if (verdict === 'free' && (await freePlace(parts, provider, slot))) freedPlaces += 1
      if (verdict === 'forgotten' && slot.owner.kind === 'job') await endRun(parts, slot.owner.runId)
    }
  }
  const memory = remember(judged, failures, killed, waiting, around)
  const sandboxes = judged.map((each): ReapedSandbox => {
    const known = memory.sandboxes[each.id] ?? options.memory.sandboxes[each.id]
    return { provider: name, ...each, failedKills: known?.failedKills ?? 0, lastError: known?.lastError ?? null, killed: killed.has(each.id) }
  })
  return { round: { provider: name, sandboxes, foreign: listing.foreign?.length ?? null, freedPlaces, problem: null }, memory }
}

/** As a process that may kill: claims the provider first. @returns null when another process reaps there, or did so within the gap. */
export async function claimAndReap(parts: ReapParts, provider: Provider, gapMs: number): Promise<ReapRound | null> {
  const ttlMs = 2 * parts.callTimeoutMs + 30_000
  const memory = await untilAborted(parts.reaping.claim(provider.name, { gapMs, ttlMs }), parts.signal)
  if (memory === null) return null
  let kept: ReapMemory | null = null
  try {
    const done = await reapRound(parts, provider, { memory, claim: async () => {
      parts.onTurn?.()
      return (await parts.reaping.claim(provider.name, { gapMs: 0, ttlMs })) !== null
    } })
    kept = done.memory
    return done.round
  } finally {
    await untilAborted(parts.reaping.finish(provider.name, kept), AbortSignal.timeout(parts.callTimeoutMs))
  }
}

/** As `claimAndReap`, but waits for another process's round to end, so that its own is made after it. */
export async function reapNow(parts: ReapParts, provider: Provider, patienceMs: number): Promise<ReapRound> {
  const deadline = parts.now() + patienceMs
  for (;;) {
    const round = await claimAndReap(parts, provider, 0)
    if (round !== null) return round
    if (parts.now() >= deadline) {
      return { provider: provider.name, sandboxes: [], foreign: null, freedPlaces: 0, problem: 'another process reaps there and takes long; look with --dry-run, or try again' }
    }
    await sleep(250, undefined, { signal: parts.signal })
  }
}

/** By tag, and all: some providers list no tags, and those that are not ours count as well. */
async function listAll(parts: ReapParts, provider: Provider): Promise<{ own: SandboxInfo[]; foreign: SandboxInfo[] | null }> {
  const own = new Map<string, SandboxInfo>()
  const options = { timeoutMs: parts.callTimeoutMs, signal: parts.signal }
  for await (const info of provider.list({ 'switchyard-deployment': parts.deployment }, options)) {
    own.set(info.id, info)
    parts.onTurn?.()
  }
  const foreign: SandboxInfo[] = []
  try {
    for await (const info of provider.list({}, options)) {
      parts.onTurn?.()
      if (own.has(info.id)) continue
      if (info.tags['switchyard-deployment'] === parts.deployment) own.set(info.id, info)
      else foreign.push(info)
    }
    return { own: [...own.values()], foreign }
  } catch (error) {
    parts.signal.throwIfAborted()
    parts.log.warn({ provider: provider.name, message: errorMessage(error) }, 'sandboxes of others not listed; they are not counted this time')
    return { own: [...own.values()], foreign: null }
  }
}

async function findRuns(store: RunStore, jobIds: readonly string[], signal: AbortSignal): Promise<Map<string, FoundRun>> {
  const runs = new Map<string, FoundRun>()
  try {
    const found = await untilAborted(store.readMany(jobIds), signal)
    jobIds.forEach((jobId, index) => runs.set(jobId, found[index] ?? null))
    return runs
  } catch (error) {
    if (!isUnreadable(error)) throw error
  }
  // One of them is of another version of Switchyard, or damaged.
  for (const jobId of jobIds) {
    try {
      runs.set(jobId, await untilAborted(store.read(jobId), signal))
    } catch (error) {
      if (!isUnreadable(error)) throw error
      runs.set(jobId, 'unreadable')
    }
  }
  return runs
}

function isUnreadable(error: unknown): boolean {
  return error instanceof NewerReleaseError || error instanceof z.ZodError || error instanceof SyntaxError
}

async function killOrphans(
  parts: ReapParts,
  provider: Provider,
  judged: readonly JudgedSandbox[],
  outcome: { readonly failures: Map<string, string>; readonly killed: Set<string>; readonly claim: () => Promise<boolean> },
): Promise<void> {
  const orphans = judged.filter(({ verdict }) => verdict === 'orphan')
  for (let start = 0; start < orphans.length; start += killsAtOnce) {
    // Also when it was frozen since: what nobody owned then nobody owns now, but another process is at it.
    if (!(await untilAborted(outcome.claim(), parts.signal))) return
    await Promise.all(
      orphans.slice(start, start + killsAtOnce).map(async ({ id, jobId, why }) => {
        const what = { provider: provider.name, sandboxId: id, jobId, why }
        try {
          await provider.kill(id, { timeoutMs: parts.callTimeoutMs, signal: parts.signal })
          outcome.killed.add(id)
          parts.log.warn(what, 'sandbox reaped')
        } catch (error) {
          if (parts.signal.aborted) return
          outcome.failures.set(id, errorMessage(error))
          parts.log.error({ ...what, message: errorMessage(error) }, 'sandbox not reaped; tried again at the next round')
        }
      }),
    )
    parts.signal.throwIfAborted()
  }
}

/** Its sandbox and its place are the next round's. */
async function endRun(parts: ReapParts, jobId: string): Promise<void> {
  try {
    if (await endForgottenRun(parts, jobId)) parts.log.warn({ jobId }, 'run ended: its job was removed from the queue')
  } catch (error) {
    parts.signal.throwIfAborted()
    parts.log.warn({ jobId, message: errorMessage(error) }, 'run of a removed job not ended; tried again at the next round')
  }
}

async function freePlace(parts: ReapParts, provider: Provider, slot: BoundSlot): Promise<boolean> {
  const { owner, leaseId } = slot
  const { signal, log } = parts
  try {
    // A listing may lag; the provider's word on this very sandbox is asked for before its place goes to another.
    if (owner.kind === 'sandbox' && (await provider.get(owner.sandboxId, { timeoutMs: parts.callTimeoutMs, signal })) !== undefined) return false
    const freed = await untilAborted(parts.owners.free(slot), signal)
    if (freed) log.info({ provider: provider.name, leaseId, owner }, 'place freed: its owner is gone')
    return freed
  } catch (error) {
    signal.throwIfAborted()
    log.warn({ provider: provider.name, leaseId, owner, message: errorMessage(error) }, 'place not freed; tried again at the next round')
    return false
  }
}
