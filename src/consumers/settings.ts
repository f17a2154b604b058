import { z } from 'zod'

const milliseconds = z.int().min(1)

/** How a consumer behaves; every field has a default that suits production. Milliseconds and bytes. */
export const consumerSettingsSchema = z.strictObject({
  /** How many jobs one process supervises at most. */
  maxJobs: z.int().min(1).default(200),
  /** How long a job stays this consumer's without a renewal; it is renewed every third of that. */
  leaseMs: milliseconds.default(15_000),
  /** For how long what a job with a budget costs is reserved at a time, again each third of it: what is left is the time to park it in. */
  budgetPeriodMs: milliseconds.min(300).default(60_000),
  /** How often jobs whose consumer died are looked for. With `leaseMs` this bounds the stall window. */
  stallCheckMs: milliseconds.default(5_000),
  /**
   * How long no live consumer may be able to run a job before it fails, or goes on elsewhere when it has begun. Default: four times `leaseMs`, in
   * which a consumer that is restarted announces itself again.
   */
  unrunnableGraceMs: milliseconds.optional(),
  /**
   * How long a loop of a consumer may take longer than its longest round before `/healthz` calls it stuck; time in which Redis is away does not
   * count.
   */
  stuckAfterMs: milliseconds.min(1_000, 'must be at least 1000').default(120_000),
  /** How often a consumer looks for work and room without having been woken. */
  pollMs: milliseconds.min(1_000, 'must be at least 1000').default(1_000),
  /** How long one read waits in the sandbox for output. */
  readWaitMs: milliseconds.max(20_000).default(20_000),
  /** The most output that one read brings. */
  readBytes: z.int().min(1024).max(4 * 1024 * 1024).default(1024 * 1024),
  /** Between TERM and KILL when a step is stopped. */
  stopGraceMs: milliseconds.default(5_000),
  /** Whether git and CA certificates are installed in sandboxes whose image lacks them, as root and through its package manager. */
  installGit: z.boolean().default(true),
  /** How long that may take. */
  installTimeoutMs: milliseconds.default(180_000),
  /** Deadlines of single calls to providers and git hosts. */
  createTimeoutMs: milliseconds.default(120_000),
  /** The least time after which a create that does not end is given up for another provider that has room; see `isGivenUp`. */
  createPatienceMs: milliseconds.default(30_000),
  callTimeoutMs: milliseconds.default(30_000),
  gitTimeoutMs: milliseconds.default(300_000),
  /** How long a sandbox that lives, by its provider's word, is waited for when it can't be reached. */
  patienceMs: milliseconds.default(300_000),
  /** The most that one fetch, checkpoint or push carries, as a pack, at a provider with `credentials: 'brokered'`. */
  maxPackBytes: z.int().min(1024).default(1024 * 1024 * 1024),
  /** A sandbox's lifetime, renewed while its job runs. */
  sandboxLifetimeMs: milliseconds.default(600_000),
  /** How long before the end of a lifetime that can't be extended a step with `resume` begins to move; a third of a shorter lifetime. */
  plannedMoveMs: milliseconds.default(180_000),
  /** How many sandboxes one job may use up before it fails: a job that kills every sandbox must end. */
  maxAttempts: z.int().min(1).default(10),
  /** How long a finished step's work may take to be saved once the job's own time is up. */
  saveGraceMs: milliseconds.default(60_000),
  /** How long storing a job's artifacts may take once it is certain how the job ends. */
  artifactsTimeoutMs: milliseconds.default(120_000),
  /** About how often each provider's sandboxes are held against the run records, by one of all consumers. */
  reapIntervalMs: milliseconds.min(1_000, 'must be at least 1000').default(60_000),
  /** How old a sandbox that no run owns must be before it is killed. */
  reapGraceMs: z.int().min(0).default(120_000),
  /** How long the branches of ended jobs are kept; `push.keep` in a job keeps its own for ever. */
  branchRetentionMs: z.int().min(0).default(7 * 24 * 60 * 60 * 1000),
  /** Tail of each stream that results hold, in bytes. */
  outputTailBytes: z.int().min(0).max(65_536).default(4_096),
  /**
   * How much of the lines that a job has changed stands on its page, in bytes. It is kept in Redis as long as its result, with secrets masked; 0 for none
   * of it: the paths and counts are there all the same.
   */
  patchBytes: z.int().min(0).max(262_144, 'must be at most 262144').default(32_768),
  /** Output of one stream of one step that is kept; past it the middle is left out. */
  maxLogBytes: z.int().min(4_096).default(16 * 1024 * 1024),
})
export type ConsumerSettings = z.output<typeof consumerSettingsSchema>

/** The longest that the supervision of a job may go without a sign of progress, in milliseconds: twice the longest call that it makes. */
export function longestQuietMs({ stuckAfterMs, createTimeoutMs, gitTimeoutMs, installTimeoutMs, callTimeoutMs, readWaitMs, artifactsTimeoutMs, saveGraceMs }: ConsumerSettings): number {
  return stuckAfterMs + 2 * Math.max(createTimeoutMs, gitTimeoutMs, installTimeoutMs, callTimeoutMs + readWaitMs, artifactsTimeoutMs, saveGraceMs)
}
