import { z } from 'zod'
import { artifactSchema, missedArtifactSchema, testSummarySchema } from './artifacts.js'
import { costSchema } from './cost.js'
import { errorOwners } from './error-owner.js'
import { jobErrorKinds } from './errors.js'
import { lastingObject } from './lasting.js'
import { stepName } from './step-name.js'

const count = z.int().min(0)
/** ISO 8601 with milliseconds, in UTC. */
const instant = z.iso.datetime()

/** An error as results and records hold it. */
export const jobErrorSchema = lastingObject({
  kind: z.enum(jobErrorKinds),
  message: z.string(),
  /** Whose fault it was; see `ErrorOwner`. Left out where it is nobody's, as with a cancel, and by earlier releases. */
  owner: z.enum(errorOwners).optional(),
  /** Stable, while the message may change: an `ErrorCode`, see docs/errors.md, or one of a later release. Left out by earlier ones. */
  code: z.string().optional(),
})
export type JobError = z.output<typeof jobErrorSchema>

export const stepResultSchema = lastingObject({
  name: z.string(),
  /** The command's exit code; 128 + n for a signal n; null when it was stopped before it ended (timeout, cancel). */
  exitCode: z.int().nullable().default(null),
  durationMs: count,
  /** The last bytes of the output as UTF-8, secrets masked; at most `outputTailBytes` of the consumer (4 KiB). */
  stdoutTail: z.string().default(''),
  stderrTail: z.string().default(''),
})
export type StepResult = z.output<typeof stepResultSchema>

export const attemptSchema = lastingObject({
  provider: z.string(),
  /** Null when no sandbox came to be. */
  sandboxId: z.string().nullable().default(null),
  startedAt: instant,
  endedAt: instant.nullable().default(null),
  /**
   * `lost`: the sandbox or its provider died; `unavailable`: no sandbox came to be; `moved`: its lifetime was about to end. All three go on
   * elsewhere. `parked`: a budget had too little; it goes on when that has more.
   */
  outcome: z.enum(['running', 'succeeded', 'failed', 'cancelled', 'lost', 'unavailable', 'moved', 'parked']),
  error: jobErrorSchema.nullable().default(null),
  /** What its sandbox cost until it was killed, or known to be lost; left out until then, and where its provider has no price. */
  cost: costSchema.optional(),
})
export type Attempt = z.output<typeof attemptSchema>

export const promotionSchema = lastingObject({
  to: z.string(),
  sha: z.string(),
  result: z.enum(['created', 'fast_forward', 'merge_commit', 'no_op']),
})
export type Promotion = z.output<typeof promotionSchema>

export const pullRequestSchema = lastingObject({
  number: z.int().min(1),
  url: z.url({ protocol: /^https?$/ }),
  /** The branch that it asks to be merged into. */
  base: z.string(),
  /** `updated`: one was open already for the same branches. `found`: it was opened before, and is closed by now. */
  action: z.enum(['opened', 'updated', 'found']),
  /** What of it could not be had, such as a label or a reviewer; a sentence each. */
  problems: z.array(z.string()).default([]),
})
export type PullRequest = z.output<typeof pullRequestSchema>

export const diffSchema = lastingObject({
  files: count,
  additions: count,
  deletions: count,
  /** The changed paths, at most 1,000 of them. */
  paths: z.array(z.string()),
})
export type Diff = z.output<typeof diffSchema>

export const unsavedPathSchema = lastingObject({
  path: z.string(),
  /** A clause: why its content, as the agent left it, is not in the commit. */
  reason: z.string(),
})
export type UnsavedPath = z.output<typeof unsavedPathSchema>

export const keptBranchSchema = lastingObject({
  /** The ephemeral branch at the git host: `kept/<job>/<n>`. */
  branch: z.string(),
  commit: z.string(),
  /** What held the commit in the sandbox: a full ref, or `worktree PATH`. */
  ref: z.string(),
})
export type KeptBranch = z.output<typeof keptBranchSchema>

/** How a job ended. */
export const jobResultSchema = lastingObject({
  jobId: z.string(),
  status: z.enum(['succeeded', 'failed', 'cancelled']),
  /** Why it did not succeed; null when it did. */
  error: jobErrorSchema.nullable().default(null),
  repository: z.string(),
  /** The commit that the job started from; null when it ended before that was known. */
  baseSha: z.string().nullable().default(null),
  /** The ephemeral branch that holds the work; null when nothing was pushed. */
  branch: z.string().nullable().default(null),
  /** That branch's head; for a job that did not succeed, its last checkpoint or final state. */
  commit: z.string().nullable().default(null),
  promoted: promotionSchema.nullable().default(null),
  /** The pull request that `promote.pullRequest` asked for; null without it, and when there was nothing to request. */
  pullRequest: pullRequestSchema.nullable().default(null),
  steps: z.array(stepResultSchema).default([]),
  attempts: z.array(attemptSchema).default([]),
  diff: diffSchema.nullable().default(null),
  /** What the agent left in the repository and `commit` does not hold, at most 200 paths of it. */
  unsaved: z.array(unsavedPathSchema).default([]),
  /** How many more there were. */
  unsavedMore: count.default(0),
  /** Commits that the agent made beside its branch: other branches, linked worktrees. */
  kept: z.array(keptBranchSchema).default([]),
  /** The files that the job's `artifacts` name and that were stored. */
  artifacts: z.array(artifactSchema).default([]),
  /** What of them could not be had, at most 100, each with why. */
  artifactsMissed: z.array(missedArtifactSchema).default([]),
  /** How many more there were. */
  artifactsMissedMore: count.default(0),
  /** What the JUnit files among the artifacts say together; null when there are none. */
  tests: testSummarySchema.nullable().default(null),
  usage: lastingObject({
    sandboxSeconds: z.number().min(0),
    /** Of all attempts; left out where no provider had a price. */
    cost: costSchema.optional(),
  }),
  metadata: z.record(z.string(), z.json()).default({}),
  /** Whose job it was; null when it named no tenant, or an earlier release ended it. */
  tenant: z.string().nullable().default(null),
})
export type JobResult = z.output<typeof jobResultSchema>

/** What the schemas or `wholeResult` put back, as JSON, by the field's name. */
const usual = {
  result: { error: 'null', baseSha: 'null', branch: 'null', commit: 'null', promoted: 'null', pullRequest: 'null', steps: '[]', attempts: '[]', diff: 'null', unsaved: '[]', unsavedMore: '0', kept: '[]', artifacts: '[]', artifactsMissed: '[]', artifactsMissedMore: '0', tests: 'null', metadata: '{}', tenant: 'null' },
  step: { exitCode: 'null', stdoutTail: '""', stderrTail: '""' },
  attempt: { sandboxId: 'null', endedAt: 'null', error: 'null', outcome: '"succeeded"' },
}

/**
 * A result without what `wholeResult` and its schema put back.
 * @param runId what it is held under: the job's id among all queues of its deployment.
 */
export function shortResult(result: JobResult, runId: string): object {
  const short = (each: object, left: Readonly<Record<string, string>>) => {
    const held: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(each)) if (left[name] === undefined || JSON.stringify(value) !== left[name]) held[name] = value
    return held
  }
  const { steps, attempts } = result
  return short(
    { ...result, steps: steps.map((step, index) => short(step, { ...usual.step, name: JSON.stringify(stepName(index)) })), attempts: attempts.map((attempt) => withShortTimes(short(attempt, usual.attempt))) },
    { ...usual.result, jobId: JSON.stringify(runId) },
  )
}

const times = ['startedAt', 'endedAt'] as const

/** Times as milliseconds since 1970 where that says all of them: half as long. */
function withShortTimes(attempt: Record<string, unknown>): Record<string, unknown> {
  for (const name of times) {
    const text = attempt[name]
    const ms = typeof text === 'string' ? Date.parse(text) : NaN
    if (!Number.isNaN(ms) && new Date(ms).toISOString() === text) attempt[name] = ms
  }
  return attempt
}

/** A time of an attempt as it is held. */
export const heldTime = z.int().min(-8.64e15).max(8.64e15).transform((ms) => new Date(ms).toISOString()).or(z.string())

const heldAttempt = z.looseObject({ startedAt: heldTime, endedAt: heldTime.nullish() })
const heldResult = z.looseObject({ steps: z.array(z.looseObject({})).optional(), attempts: z.array(heldAttempt).optional() })

/** A result as its schema takes it, from what is held of it under its job's id among all queues. What is none is left as it is. */
export function wholeResult(held: unknown, runId: string): unknown {
  const { success, data } = heldResult.safeParse(held)
  if (!success) return held
  const { steps, attempts } = data
  return {
    jobId: runId,
    ...data,
    ...(steps === undefined ? {} : { steps: steps.map((step, index) => ({ name: stepName(index), ...step })) }),
    ...(attempts === undefined ? {} : { attempts: attempts.map((attempt) => ({ outcome: 'succeeded', ...attempt })) }),
  }
}
