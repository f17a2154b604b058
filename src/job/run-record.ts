import { z } from 'zod'
import { collectedSchema } from './artifacts.js'
import { billedSchema } from './cost.js'
import { jobWebhookSchema, eventKinds } from './event-kinds.js'
import { lastingObject } from './lasting.js'
import { traceCarrierSchema } from './trace-carrier.js'
import { attemptSchema, diffSchema, jobErrorSchema, keptBranchSchema, promotionSchema, pullRequestSchema, stepResultSchema, unsavedPathSchema } from './result.js'

const count = z.int().min(0)

/**
 * What a consumer must know to take over the supervision of a job from another one, in the middle of anything.
 * It lives in Redis and is written only through Lua that checks the holder's fencing number (src/store).
 *
 * Phases, in order; each is left only when what it names is done and recorded:
 * - `placing`: no sandbox; one is chosen and created. `creating` holds the intent before the create call is made, so
 *   that a create whose answer was lost is found again by its name.
 * - `preparing`: the sandbox exists; the runner is installed, the repository is fetched, the last checkpoint restored.
 * - `setup`: the spec's setup steps run.
 * - `steps`: the spec's steps run, a checkpoint after each.
 * - `pushing`: the final commit is made and pushed.
 * - `promoting`: the target branch is moved.
 * - `closing`: the sandbox is killed, the slot released.
 * - `ended`: the result is written, the event emitted. Terminal.
 * A failed job that has attempts left goes from `closing` to `placing` again, with nothing but its attempts and what it used.
 * From `preparing` to `pushing` a lost sandbox leads back to `placing`, with the step index of the last checkpoint.
 */
export const runPhases = ['placing', 'preparing', 'setup', 'steps', 'pushing', 'promoting', 'closing', 'ended'] as const
export type RunPhase = (typeof runPhases)[number]

/**
 * What has become of a run, by the clock, for the picture of its course. Written with the run's own writes, so that it is there
 * whoever supervises it; for showing, never for truth.
 *
 * An entry is a list, since each of a million ended jobs has some: what, its beginning and its end in milliseconds since the run began (null while
 * it lasts), a text and a number.
 *
 *   setup, step   the step's name; its exit code, null where it did not end by itself
 *   phase         `preparing`, `pushing` or `promoting`
 *   wait          what for
 *   saved         the latest commit's sha; how many checkpoints were saved in a row
 *   taken         the consumer that took the run over from another
 *   more          how many entries there was no room for
 */
export const milestoneSchema = z.tuple([z.string(), z.number(), z.number().nullable(), z.string(), z.number().nullable()]).rest(z.unknown())
export type Milestone = z.output<typeof milestoneSchema>

export const runRecordSchema = lastingObject({
  jobId: z.string(),
  /** Its id among all queues of its deployment, where that is another one; see `runIdOf`. */
  runId: z.string().optional(),
  /** 1 for the first run of a job; a retry of the whole job counts up and gets branches of its own. */
  generation: z.int().min(1),
  /** Milliseconds since 1970 at which the first supervisor took the job. */
  startedAtMs: count,
  /** Milliseconds since 1970 at which the first sandbox of the job, or of its restart, was there: its timeout counts from here. Null until then. */
  firstSandboxAtMs: count.nullable().default(null),
  phase: z.enum(runPhases),
  repository: z.string(),
  /** What `ref` meant when the job started: a full ref to fetch, when there is one, and the commit. */
  base: lastingObject({ ref: z.string().nullable(), sha: z.string() }).nullable(),
  /** The promotion's compare-and-swap: where the target stood when the job started; null when it did not exist. */
  promoteFrom: lastingObject({ sha: z.string().nullable() }).nullable(),
  /** The intent to create, written before the call. */
  creating: lastingObject({ provider: z.string(), name: z.string(), atMs: count }).nullable(),
  sandbox: lastingObject({
    provider: z.string(),
    id: z.string(),
    createdAtMs: count,
    repositoryPath: z.string().nullable(),
    /** When it ends whatever is done, in milliseconds since 1970; left out when nobody says so. */
    endsAtMs: count.optional(),
    /** What it costs; left out where its provider has no price. */
    billed: billedSchema.optional(),
  }).nullable(),
  /**
   * What a job that is to outlive its sandbox moves to: nothing but the wish, then the intent to create, then a sandbox. Meanwhile the
   * job's place is that one's, and the place of `sandbox` is its own.
   */
  next: lastingObject({
    /** The intent to create, written before the call. */
    creating: lastingObject({ provider: z.string(), name: z.string(), atMs: count }).nullable(),
    sandbox: lastingObject({ provider: z.string(), id: z.string(), createdAtMs: count, endsAtMs: count.optional(), billed: billedSchema.optional() }).nullable(),
  }).nullable().default(null),
  /** Index of the setup step that runs or comes next in this sandbox. */
  setupIndex: count,
  /** Index of the step that runs or comes next. */
  stepIndex: count,
  /** The command under way in the sandbox, and how far its output is in the log stream, in bytes. */
  running: lastingObject({
    key: z.string(),
    startedAtMs: count,
    stdoutOffset: count,
    stderrOffset: count,
    /** Its time is up and it is being stopped: whatever exit code it has now is not its own. */
    timedOut: z.boolean().default(false),
    /** It is being stopped because its sandbox ends soon, to go on in another one: its exit code is not its own either. */
    moved: z.boolean().optional(),
  }).nullable(),
  checkpoint: lastingObject({
    sha: z.string(),
    /** The step to go on with from here. */
    stepIndex: count,
    /** The agent's own HEAD in it, and how many commits that is past the base. */
    headSha: z.string(),
    commitsAhead: count,
    /** The attempt's branch that it was pushed to; null when nothing had changed and `sha` is the base itself. */
    branch: z.string().nullable(),
    atMs: count,
    /** Whether it was made while the step `stepIndex` ran. */
    withinStep: z.boolean().default(false),
    /** Whether it holds something under `checkpoint.paths`. */
    holdsPaths: z.boolean().default(false),
    /** Where the repository was, as an absolute path; null when an earlier release made it. */
    repositoryPath: z.string().nullable().default(null),
  }).nullable(),
  /** Why the latest checkpoint could not be saved, how often in a row and since when; null once one is. */
  checkpointProblem: lastingObject({ error: jobErrorSchema, failures: z.int().min(1), sinceMs: count }).nullable().default(null),
  /** Every checkpoint branch that this run has pushed to, to be deleted in the end. */
  checkpointBranches: z.array(z.string()),
  /**
   * Branches that would be this run's by their names and hold commits that it does not know: another job had its id, or Redis went back to before this very
   * run pushed them. It has others in their place.
   */
  takenBranches: z.array(z.string()).optional(),
  /** Set once it is certain how the job ends; what is left is to save the work and close. */
  outcome: lastingObject({ status: z.enum(['succeeded', 'failed', 'cancelled']), error: jobErrorSchema.nullable() }).nullable(),
  /** Sandboxes that were given up without proof of their death: killed in `closing`, else left to the reaper. */
  abandoned: z.array(lastingObject({ provider: z.string(), id: z.string() })),
  /** The step within which the last sandbox broke (not: was lost), so that a second one shows whose fault it is. */
  brokeAtStep: count.nullable().default(null),
  steps: z.array(stepResultSchema),
  attempts: z.array(attemptSchema),
  /** Made before it is pushed, so that a push whose answer was lost is repeated with the same commit. */
  finalCommit: z.string().nullable(),
  pushed: z.boolean(),
  /** The signed commit that takes the place of `of` on the job's branch: before it is pushed, and once it is there. Null without signing. */
  signature: lastingObject({ of: z.string(), sha: z.string(), done: z.boolean() }).nullable().default(null),
  promoted: promotionSchema.nullable(),
  pullRequest: pullRequestSchema.nullable().default(null),
  diff: diffSchema.nullable(),
  /** What the latest checkpoint or the final commit does not hold, and how many more paths there were. */
  unsaved: z.array(unsavedPathSchema).default([]),
  unsavedMore: count.default(0),
  /** What was pushed as `kept/<job>/<n>`. */
  kept: z.array(keptBranchSchema).default([]),
  /** The artifacts, once they were collected for good; null before. */
  collected: collectedSchema.nullable().default(null),
  /** How many such branches may have been pushed, by how often the job was begun again: 0 times, once, … */
  keptCounts: z.array(count).default([]),
  /** Whether the final commit descends from where the job began; false once the agent rewrote what it began with. */
  descends: z.boolean().default(true),
  /** Whether the step `stepIndex` goes on from within: its checkpoint was brought back with what lies under `checkpoint.paths`. */
  resumes: z.boolean().default(false),
  /** Sandbox-milliseconds of the attempts that have ended. */
  usedMs: count,
  /** Set once the whole job was begun again after it had failed: how often, when it was last, and how many attempts lie before that. */
  restart: lastingObject({ count: z.int().min(1), atMs: count, attemptsBefore: count }).nullable().default(null),
  /** Of a run that goes on from the last checkpoint of an earlier run of its job: that one's generation, and whether the checkpoint was found at the git host. */
  continues: lastingObject({ generation: z.int().min(1), confirmed: z.boolean() }).nullable().default(null),
  /** What has become of it by the clock, for the picture of its course. */
  milestones: z.array(milestoneSchema).default([]),
  /** Set once something was reserved of a budget for it, which its end gives back. */
  budgeted: z.literal(true).optional(),
  /** Where it was parked last for want of a budget. */
  parking: lastingObject({
    /** Why, for people, while it waits; null once it goes on. */
    reason: z.string().nullable(),
    atMs: count,
    /** How much of its timeout had gone by: that stands still until its next sandbox is there. */
    timeUsedMs: count,
    /** Where it stood: see `placeOf`. Empty where it had no sandbox before. */
    place: z.string(),
    /** How many attempts there were. */
    attempts: count,
  }).optional(),
  /** Whose job it is, in case that its spec goes before its end; left out when it names no tenant. */
  tenant: z.string().optional(),
  /** Which trace it belongs to: the producer's span, and the run's at the consumer that had it last; left out without one. */
  trace: lastingObject({ parent: traceCarrierSchema, run: traceCarrierSchema }).optional(),
  /** What the job asks to be told of besides its end, and by which webhooks; left out when it asks for nothing. */
  asked: lastingObject({ events: z.array(z.enum(eventKinds)).optional(), webhooks: z.array(jobWebhookSchema).optional() }).optional(),
})
export type RunRecord = z.output<typeof runRecordSchema>

/** A run at its very beginning. */
export function newRunRecord(run: Pick<RunRecord, 'jobId' | 'runId' | 'generation' | 'repository' | 'startedAtMs' | 'asked' | 'tenant'>): RunRecord {
  // One literal: V8 makes an object of forty fields that are added one by one many times more slowly.
  const record: RunRecord = {
    jobId: run.jobId,
    generation: run.generation,
    repository: run.repository,
    startedAtMs: run.startedAtMs,
    firstSandboxAtMs: null,
    phase: 'placing',
    base: null,
    promoteFrom: null,
    creating: null,
    sandbox: null,
    next: null,
    setupIndex: 0,
    stepIndex: 0,
    running: null,
    checkpoint: null,
    checkpointProblem: null,
    checkpointBranches: [],
    outcome: null,
    abandoned: [],
    brokeAtStep: null,
    steps: [],
    attempts: [],
    finalCommit: null,
    pushed: false,
    signature: null,
    promoted: null,
    pullRequest: null,
    diff: null,
    unsaved: [],
    unsavedMore: 0,
    kept: [],
    collected: null,
    keptCounts: [],
    descends: true,
    resumes: false,
    usedMs: 0,
    restart: null,
    continues: null,
    milestones: [],
  }
  if (run.runId !== undefined) record.runId = run.runId
  if (run.tenant !== undefined) record.tenant = run.tenant
  if (run.asked !== undefined) record.asked = run.asked
  return record
}
