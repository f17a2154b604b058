import { createHash } from 'node:crypto'
import type { RunRecord } from './run-record.js'

/**
 * The rules of `git check-ref-format --branch`, so that a bad name is refused before anything is enqueued.
 * @returns the problem as half a sentence, or undefined when git takes the name.
 */
export function branchNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty'
  if (Buffer.byteLength(name) > 200) return 'is longer than 200 bytes'
  if (/[\u0000-\u0020\u007f~^:?*[\\]/.test(name)) return 'holds a space, a control character or one of ~ ^ : ? * [ \\'
  if (name.includes('..')) return 'holds ".."'
  if (name.includes('@{') || name === '@') return 'holds "@{" or is "@"'
  if (name.startsWith('-')) return 'starts with "-"'
  if (name.startsWith('/') || name.endsWith('/') || name.includes('//')) return 'has an empty part between slashes'
  if (name.endsWith('.')) return 'ends with "."'
  if (name.split('/').some((part) => part.startsWith('.') || part.endsWith('.lock'))) {
    return 'has a part that starts with "." or ends with ".lock"'
  }
  if (name === 'HEAD' || name.startsWith('refs/')) return 'is a full ref or HEAD; give the short branch name'
  return undefined
}

/**
 * The rules for a repository id: parts of letters, digits, `.`, `_` and `-` with `/` between, as Code Storage and the
 * usual git hosts have them. A `+` would reach another namespace, `..` another folder.
 */
export function repositoryProblem(id: string): string | undefined {
  if (id === '') return 'is empty'
  if (id.length > 200) return 'is longer than 200 characters'
  if (!/^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)*$/.test(id)) {
    return 'must be parts of letters, digits, ".", "_" and "-" with "/" between them, such as "acme/web"'
  }
  if (id.includes('..')) return 'holds ".."'
  if (id.endsWith('.git')) return 'ends with ".git"; leave that out'
  return undefined
}

/** What BullMQ calls keys of its own of a queue, beside which it keeps jobs by their ids. */
const queueParts = new Set([
  'id', 'wait', 'paused', 'active', 'prioritized', 'delayed', 'completed', 'failed', 'waiting-children', 'meta', 'events', 'pc', 'marker', 'stalled', 'stalled-check',
  'limiter', 'priority', 'repeat', 'metrics', 'de', 'drain', 'lock', 'logs',
])

/** Whether a job may have this id: of any other text BullMQ would read, or remove, something else that it keeps in the same place. */
export function mayBeJobId(id: unknown): boolean {
  return typeof id === 'string' && id.length <= 300 && !namesQueuePart(id) && !/\p{Cs}/u.test(id)
}

/** Whether BullMQ keeps something else of a queue, or of one of its jobs, where it would keep a job of this id. */
export function namesQueuePart(id: string): boolean {
  return queueParts.has(id) || !/^[^:]+$|^(?!metrics:|de:)[^:]+:[^:]+:[^:]+$/.test(id)
}

/**
 * The branch that the user gets: the agent's commits and at most one for the rest. A job that is run again from the start gets
 * a branch of its own: by the queue (a higher generation), or because it had attempts left (a restart).
 */
export function workBranch(run: RunNames): string {
  return notTaken(`agent/${runName(run)}`, run.takenBranches)
}

type RunNames = Pick<RunRecord, 'jobId' | 'runId' | 'generation' | 'restart' | 'takenBranches'>

/** A branch of a run's own: under another name where that one holds commits that the run does not know; see `RunRecord.takenBranches`. */
function notTaken(name: string, taken: readonly string[] = []): string {
  for (let number = 2, free = name; ; number++) {
    if (!taken.includes(free)) return free
    free = `${name}.${number}`
  }
}

function runName({ jobId, runId = jobId, generation, restart }: Omit<RunNames, 'takenBranches'>): string {
  const job = branchPart(runId)
  if (restart !== null) return `${job}-${generation}.${restart.count + 1}`
  return generation === 1 ? job : `${job}-${generation}`
}

/**
 * What stands for a job in its branches' names: its id. Where git does not take that, it is what git takes of it, and a digest: BullMQ's job schedulers
 * call their jobs `repeat:ID:TIME`, and whoever adds a job by hand may call it anything.
 */
function branchPart(jobId: string): string {
  if (Buffer.byteLength(jobId) <= 120 && !jobId.includes('/') && branchNameProblem(`agent/${jobId}`) === undefined) return jobId
  const digest = createHash('sha256').update(jobId).digest('hex').slice(0, 12)
  const readable = jobId.replace(/[^A-Za-z0-9_]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 80)
  return `${readable === '' ? 'job' : readable}-${digest}`
}

/** Where the artifacts of one attempt at the whole job go: a folder's path. No other attempt or run of any job has the same. */
export function artifactFolder(run: Omit<RunNames, 'takenBranches'>): string {
  return `${branchPart(run.runId ?? run.jobId)}/${run.generation}.${(run.restart?.count ?? 0) + 1}`
}

/** A branch for commits that the agent made beside the work: other branches, linked worktrees. Numbered from 1. */
export function keptBranch(run: RunNames, number: number): string {
  return notTaken(`kept/${runName(run)}/${number}`, run.takenBranches)
}

/**
 * The branch that holds an attempt's chain of checkpoints, each a fast-forward of the one before. One an attempt, so that a
 * sandbox which was given up, but lives on, can't get in the way of its successor. Deleted when the job has ended well.
 */
export function checkpointBranch(runId: string, generation: number, attempt: number, taken?: readonly string[]): string {
  return notTaken(`checkpoint/${branchPart(runId)}-${generation}.${attempt}`, taken)
}

/** The queue that every part of Switchyard uses unless configured otherwise. */
export const defaultQueueName = 'agents'

/** Ids that no other queue has: as `AgentQueue` makes them, from chance, an idempotency key, or a schedule and its time. lua/ready.lua knows them as well. */
const madeHere = /^(?:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|key-[0-9a-f]{32}|.*-\d{8}T\d{6}Z-[0-9a-f]{8})$/is

/**
 * A job's id among all queues of its deployment. BullMQ counts the jobs that are added to it by hand in each queue anew, and its job schedulers make the same
 * ids of the same schedule: whatever queues share (records of runs, places, sandboxes, branches) goes by this. In the queue "agents", and for
 * jobs that `AgentQueue` adds, it is the job's id; otherwise `QUEUE:ID`.
 */
export function runIdOf(queueName: string, jobId: string): string {
  return queueName === defaultQueueName || madeHere.test(jobId) ? jobId : `${queueName}:${jobId}`
}

/** The job of this queue that has that id among all queues; null when it is another queue's. */
export function jobIdOf(queueName: string, runId: string): string | null {
  const jobId = runId.startsWith(`${queueName}:`) ? runId.slice(queueName.length + 1) : runId
  return runIdOf(queueName, jobId) === runId ? jobId : null
}
