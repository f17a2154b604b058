import { z } from 'zod'

const milliseconds = z.int().min(1)

/** How a consumer behaves; every field has a default that suits production. Milliseconds and bytes. */
export const consumerSettingsSchema = z.strictObject({
  maxJobs: z.int().min(1).default(200).describe('How many jobs one process supervises at most.'),
  leaseMs: milliseconds.default(15_000).describe('How long a job stays this consumer’s without a renewal; it is renewed every third of that.'),
  budgetPeriodMs: milliseconds.min(300).default(60_000).describe('For how long what a job with a budget costs is reserved at a time, again each third of it: what is left is the time to park it in.'),
  stallCheckMs: milliseconds.default(5_000).describe('How often jobs whose consumer died are looked for. With leaseMs this bounds the stall window.'),
  unrunnableGraceMs: milliseconds.optional().describe('How long no live consumer may be able to run a job before it fails, or goes on elsewhere when it has begun. Default: four times leaseMs, in which a consumer that is restarted announces itself again.'),
  stuckAfterMs: milliseconds.min(1_000, 'must be at least 1000').default(120_000).describe('How long a loop of a consumer may take longer than its longest round before /healthz calls it stuck; time in which Redis is away does not count.'),
  pollMs: milliseconds.min(1_000, 'must be at least 1000').default(1_000).describe('How often a consumer looks for work and room without having been woken.'),
  readWaitMs: milliseconds.max(20_000).default(20_000).describe('How long one read waits in the sandbox for output.'),
  readBytes: z.int().min(1024).max(4 * 1024 * 1024).default(1024 * 1024).describe('The most output that one read brings.'),
  stopGraceMs: milliseconds.default(5_000).describe('Between TERM and KILL when a step is stopped.'),
  installGit: z.boolean().default(true).describe('Whether git and CA certificates are installed in sandboxes whose image lacks them, as root and through its package manager.'),
  installTimeoutMs: milliseconds.default(180_000).describe('How long installing git and CA certificates may take.'),
  createTimeoutMs: milliseconds.default(120_000).describe('The deadline of a create.'),
  createPatienceMs: milliseconds.default(30_000).describe('The least time after which a create that does not end is given up for another provider that has room.'),
  callTimeoutMs: milliseconds.default(30_000).describe('The deadline of a single call to a provider or git host that has no other.'),
  gitTimeoutMs: milliseconds.default(300_000).describe('The deadline of a fetch, a checkpoint or a push.'),
  patienceMs: milliseconds.default(300_000).describe('How long a sandbox that lives, by its provider’s word, is waited for when it can’t be reached.'),
  maxPackBytes: z.int().min(1024).default(1024 * 1024 * 1024).describe('The most that one fetch, checkpoint or push carries, as a pack, at a provider whose credentials are brokered.'),
  sandboxLifetimeMs: milliseconds.default(600_000).describe('A sandbox’s lifetime, renewed while its job runs.'),
  plannedMoveMs: milliseconds.default(180_000).describe('How long before the end of a lifetime that can’t be extended a step with resume begins to move; a third of a shorter lifetime.'),
  maxAttempts: z.int().min(1).default(10).describe('How many sandboxes one job may use up before it fails: a job that kills every sandbox must end.'),
  saveGraceMs: milliseconds.default(60_000).describe('How long a finished step’s work may take to be saved once the job’s own time is up.'),
  artifactsTimeoutMs: milliseconds.default(120_000).describe('How long storing a job’s artifacts may take once it is certain how the job ends.'),
  reapIntervalMs: milliseconds.min(1_000, 'must be at least 1000').default(60_000).describe('About how often each provider’s sandboxes are held against the run records, by one of all consumers.'),
  reapGraceMs: z.int().min(0).default(120_000).describe('How old a sandbox that no run owns must be before it is killed.'),
  branchRetentionMs: z.int().min(0).default(7 * 24 * 60 * 60 * 1000).describe('How long the branches of ended jobs are kept; push.keep in a job keeps its own for ever.'),
  outputTailBytes: z.int().min(0).max(65_536).default(4_096).describe('Tail of each stream that results hold, in bytes.'),
  patchBytes: z.int().min(0).max(262_144, 'must be at most 262144').default(8_192).describe('How much of the lines that a job has changed stands on its page, in bytes. It is kept in Redis as long as its result, with secrets masked; 0 for none of it: the paths and counts are there all the same.'),
  maxLogBytes: z.int().min(4_096).default(16 * 1024 * 1024).describe('Output of one stream of one step that is kept; past it the middle is left out.'),
})
export type ConsumerSettings = z.output<typeof consumerSettingsSchema>

/** The longest that the supervision of a job may go without a sign of progress, in milliseconds: twice the longest call that it makes. */
export function longestQuietMs({ stuckAfterMs, createTimeoutMs, gitTimeoutMs, installTimeoutMs, callTimeoutMs, readWaitMs, artifactsTimeoutMs, saveGraceMs }: ConsumerSettings): number {
  return stuckAfterMs + 2 * Math.max(createTimeoutMs, gitTimeoutMs, installTimeoutMs, callTimeoutMs + readWaitMs, artifactsTimeoutMs, saveGraceMs)
}
