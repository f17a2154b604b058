import type { Logger } from 'pino'
import type { GitHost } from '../../git/host.js'
import { errorMessage, InfrastructureError } from '../../job/errors.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import { eligibleHere, type ProvidersAround } from './candidates.js'
import { sandboxName } from './sandbox-name.js'

/** What the beginning of a job takes of its consumer. */
export interface BeginningParts extends ProvidersAround {
  readonly deployment: string
  readonly git: GitHost
  readonly settings: { readonly callTimeoutMs: number }
  readonly log: Logger
  readonly now: () => number
}

/** A git host that takes longer is asked again once the job is acquired, where its status says so. In milliseconds. */
const patienceMs = 2_000

/**
 * The first record of a job that was chosen together with a place: with its base and the intent to create, so that acquiring it is
 * all that is written before the create call. Where that can't be (the git host does not answer, the place does not suit) it is
 * `fresh`, and the phase `placing` does the same step by step, and meets what there is to meet.
 */
export async function beginning(shared: BeginningParts, spec: JobSpec, fresh: RunRecord, placeAt: string, signal: AbortSignal): Promise<RunRecord> {
  const eligibility = eligibleHere(shared, spec)
  if (!eligibility.ok || !eligibility.providers.includes(placeAt)) return fresh
  try {
    const base = await resolveBase(shared, spec, { timeoutMs: Math.min(patienceMs, shared.settings.callTimeoutMs), signal })
    return { ...fresh, ...base, ...intentToCreate(shared, fresh, placeAt) }
  } catch (error) {
    shared.log.debug({ jobId: fresh.jobId, message: errorMessage(error) }, 'the base of a job could not be resolved ahead; asked for again once it is acquired')
    return fresh
  }
}

/** What the job starts from: the commit, and where the promotion's target stands. */
export async function resolveBase(
  { git }: Pick<BeginningParts, 'git'>,
  { repository, promote, ref }: JobSpec,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<Pick<RunRecord, 'base' | 'promoteFrom'>> {
  if (promote?.pullRequest !== undefined && git.openPullRequest === undefined) {
    throw new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: git.name, message: `${git.name}: promote.pullRequest: this git host has no pull requests that are known; configure git.api, or leave pullRequest out` })
  }
  const [base, target] = await Promise.all([
    git.resolve(repository, ref ?? null, options),
    promote === undefined ? null : git.branchHead(repository, { name: promote.to, ephemeral: false }, options),
  ])
  return { base, promoteFrom: promote === undefined ? null : { sha: target } }
}

/** The next attempt, at that provider: recorded before the create call. */
export function intentToCreate({ deployment, now }: Pick<BeginningParts, 'deployment' | 'now'>, { jobId, runId = jobId, generation, attempts }: RunRecord, provider: string): Pick<RunRecord, 'creating' | 'attempts'> {
  const name = sandboxName(deployment, runId, generation, attempts.length + 1)
  const startedAt = new Date(now()).toISOString()
  return {
    creating: { provider, name, atMs: now() },
    attempts: [...attempts, { provider, sandboxId: null, startedAt, endedAt: null, outcome: 'running', error: null }],
  }
}
