import type { EnqueuedJob } from './producer.js'
import type { RedisEvidence, RepositoryEvidence, SeenEvent, SeenRun } from './evidence.js'
import { baseTree } from './job-scripts.js'
import { treeDifferences, type TreeEntries } from './tree.js'
import type { Violation } from './violation.js'

/** What else than its script may decide a job's end. */
export interface Struck {
  /** Sandboxes that died by a fault. */
  readonly killedSandboxes: ReadonlySet<string>
  /** When the git host refused which repository, in milliseconds since 1970. */
  readonly refusals: readonly { readonly repository: string; readonly fromMs: number; readonly toMs: number }[]
  /** Jobs of the run that have no script. */
  readonly others: readonly string[]
}

/** A job of a repository that the git host refused for a while may have failed for that, and says so; while it was refused, and not otherwise. */
function wasRefused({ script }: EnqueuedJob, { result }: SeenRun, { refusals }: Struck): boolean {
  const { owner, code } = result?.error ?? {}
  const blamed = owner === 'git-repository' || (owner === 'job' && code === 'SWY_PUSH_REFUSED')
  const endedAtMs = Date.parse(result?.attempts.at(-1)?.endedAt ?? '')
  // A job that failed before its first sandbox has no attempt that says when.
  const during = ({ repository, fromMs, toMs }: Struck['refusals'][number]) => repository === script.spec.repository && (Number.isNaN(endedAtMs) || (endedAtMs >= fromMs && endedAtMs <= toMs + refusalSettleMs))
  return result?.status === 'failed' && blamed && refusals.some(during)
}

/** How long after the refusal its answer may still be on the way to a job's end. */
const refusalSettleMs = 20_000

/** Whether each job came to what its script says: its end, its steps, its output to the byte, its tree, its event. */
export async function checkJobs(jobs: readonly EnqueuedJob[], evidence: RedisEvidence, repositories: ReadonlyMap<string, RepositoryEvidence>, struck: Struck): Promise<Violation[]> {
  const violations: Violation[] = []
  const events = new Map<string, SeenEvent[]>()
  for (const event of evidence.events) events.set(event.subject, [...(events.get(event.subject) ?? []), event])
  for (const job of jobs) {
    const run = evidence.runs.get(job.jobId)
    const repository = repositories.get(job.script.spec.repository)
    const problems =
      run === undefined || repository === undefined
        ? ['there is no evidence of it']
        : wasRefused(job, run, struck)
          ? checkEvents(job, run, events.get(job.jobId) ?? [])
          : [...checkEnd(job, run), ...checkEvents(job, run, events.get(job.jobId) ?? []), ...checkOutput(job, run), ...(await checkWork(job, run, repository, struck.killedSandboxes))]
    violations.push(...problems.map((what) => ({ jobId: job.jobId, what })))
  }
  const known = new Set([...jobs.map(({ jobId }) => jobId), ...struck.others])
  for (const event of evidence.events) if (!known.has(event.subject)) violations.push({ jobId: null, what: `an event of an unknown job ${event.subject}` })
  return violations
}

function checkEnd({ script: { expected } }: EnqueuedJob, { result, record, listed, ends }: SeenRun): string[] {
  if (result === null) return [`did not end; its phase is ${record?.phase ?? 'none'}, the queue has it in ${listed.join(', ') || 'no list'}`]
  const problems: string[] = []
  if (result.status !== expected.status) problems.push(`ended ${result.status} (${result.error?.kind ?? 'no error'}: ${result.error?.message ?? ''}), must be ${expected.status}`)
  else if ((result.error?.kind ?? null) !== expected.errorKind) problems.push(`its error is ${result.error?.kind ?? 'none'}, must be ${expected.errorKind ?? 'none'}`)
  const exitCodes = result.steps.map(({ exitCode }) => exitCode)
  if (expected.exitCodes !== null && JSON.stringify(exitCodes) !== JSON.stringify(expected.exitCodes)) {
    problems.push(`its steps ended with ${JSON.stringify(exitCodes)}, must be ${JSON.stringify(expected.exitCodes)}`)
  }
  for (const [index, attempt] of result.attempts.entries()) {
    if (attempt.endedAt === null || attempt.outcome === 'running') problems.push(`attempt ${index + 1} at ${attempt.provider} has no end`)
  }
  if (ends !== 1) problems.push(`its log has ${ends} ends`)
  // A job that was cancelled while it waited leaves the queue altogether.
  const proper = result.status === 'succeeded' ? ['completed'] : ['failed']
  const removed = result.status === 'cancelled' && listed.length === 0
  if (!removed && JSON.stringify(listed) !== JSON.stringify(proper)) problems.push(`the queue has it in ${listed.join(', ') || 'no list'}, must be ${proper.join(', ')}`)
  return problems
}

function checkEvents({ jobId }: EnqueuedJob, { result }: SeenRun, events: readonly SeenEvent[]): string[] {
  if (result === null) return events.length === 0 ? [] : ['has an event but no result']
  if (events.length === 0) return ['has no event']
  const problems: string[] = []
  const ids = new Set(events.map(({ id }) => id))
  if (ids.size > 1) problems.push(`its events have ${ids.size} ids: ${[...ids].join(', ')}`)
  if (!ids.has(`${jobId}.1`)) problems.push(`its event has the id ${[...ids].join(', ')}`)
  for (const event of events) {
    if (event.type !== `dev.switchyard.job.${result.status}`) problems.push(`its event says ${event.type}, its result ${result.status}`)
    if (JSON.stringify(event.data) !== JSON.stringify(result)) problems.push('its event tells another result')
  }
  return problems
}

/** Every byte once: each step's output is whole in the attempt where it ended, and the beginning of that where it was cut off. */
function checkOutput({ script: { expected } }: EnqueuedJob, { result, pieces }: SeenRun): string[] {
  const problems: string[] = []
  const byStep = new Map<string, Map<number, string>>()
  for (const { step, stream, attempt, offset, data } of pieces) {
    if (stream === 'system') continue
    const attempts = byStep.get(`${stream} of ${step}`) ?? new Map<number, string>()
    byStep.set(`${stream} of ${step}`, attempts)
    const before = attempts.get(attempt) ?? ''
    if (offset !== Buffer.byteLength(before)) problems.push(`${stream} of ${step}, attempt ${attempt}: a piece at byte ${offset} follows byte ${Buffer.byteLength(before)}`)
    attempts.set(attempt, before + data)
  }
  expected.outputs.forEach((whole, index) => {
    const step = `work ${index + 1}`
    const outputs = [...(byStep.get(`stdout of ${step}`) ?? new Map<number, string>()).values()]
    for (const output of outputs) {
      if (!whole.startsWith(output)) problems.push(`stdout of ${step} holds what it must not: ${JSON.stringify(output.slice(0, 300))}`)
    }
    const ended = expected.status !== 'cancelled' && result?.status === expected.status
    if (ended && whole !== '' && !outputs.includes(whole)) problems.push(`stdout of ${step} is whole in no attempt: ${JSON.stringify(outputs)}`)
    if (ended && result.steps[index]?.stdoutTail !== whole) problems.push(`its result has another end of the stdout of ${step}: ${JSON.stringify(result.steps[index]?.stdoutTail)}`)
  })
  for (const [channel, attempts] of byStep) {
    if (channel.startsWith('stderr')) problems.push(`${channel}: ${JSON.stringify([...attempts.values()].join('').slice(0, 300))}`)
  }
  return problems
}

async function checkWork({ jobId, script: { expected, spec } }: EnqueuedJob, { result, pieces }: SeenRun, repository: RepositoryEvidence, killedSandboxes: ReadonlySet<string>): Promise<string[]> {
  if (result === null) return []
  const problems: string[] = []
  const branch = `agent/${jobId}`
  const head = repository.ephemeral.get(branch) ?? null
  const promoted = expected.promotedTo === null ? null : (repository.branches.get(expected.promotedTo) ?? null)
  if (expected.promotedTo !== null && promoted !== head) problems.push(`${expected.promotedTo} is at ${promoted ?? 'nothing'}, ${branch} at ${head ?? 'nothing'}`)
  if (expected.promotedTo !== null && result.promoted?.sha !== head) problems.push(`its result says that ${result.promoted?.sha ?? 'nothing'} was promoted`)
  if (expected.promotedTo === null && result.promoted !== null) problems.push(`was promoted to ${result.promoted.to}`)
  if (spec.push === false && head !== null) problems.push(`pushed ${branch} though it must not`)
  if (expected.tree === null) return problems
  if (head === null && expected.status === 'failed' && killedSandboxes.has(result.attempts.at(-1)?.sandboxId ?? '') && pieces.some(saidUnsaved)) {
    return [...problems, ...(await checkLastCheckpoint(result.branch, result.commit, expected.tree, repository))]
  }
  if (head === null) return [...problems, `there is no branch ${branch}`]
  if (result.branch !== branch || result.commit !== head) problems.push(`its result names ${result.branch ?? 'no branch'} at ${result.commit ?? 'nothing'}, ${branch} is at ${head}`)
  problems.push(...treeDifferences(await repository.tree(head), expected.tree).map((line) => `tree: ${line}`))
  const commits = result.baseSha === null ? [] : await repository.commits(result.baseSha, head)
  const own = commits.filter(({ author }) => author === 'Agent').length
  if (own !== expected.ownCommits || commits.length > own + 1) {
    problems.push(`its branch has the commits ${JSON.stringify(commits.map(({ author, subject }) => `${author}: ${subject}`))}, must be ${expected.ownCommits} of the agent’s and at most one more`)
  }
  return problems
}

function saidUnsaved({ stream, data }: SeenRun['pieces'][number]): boolean {
  return stream === 'system' && data.includes('was not pushed')
}

/**
 * Of a failed job whose sandbox a fault killed before its work was saved, as its log says, the last checkpoint is kept, which its result
 * names: nothing in it may be anything but what the job began with or was to write.
 */
async function checkLastCheckpoint(branch: string | null, commit: string | null, expected: TreeEntries, repository: RepositoryEvidence): Promise<string[]> {
  // It died before its first checkpoint.
  if (branch === null) return []
  const head = repository.ephemeral.get(branch) ?? null
  if (head === null || head !== commit) return [`its result names ${branch} at ${commit ?? 'nothing'}, which is at ${head ?? 'nothing'}`]
  const known = (path: string, entry: { mode: string; blob: string }) => [baseTree, expected].some((tree) => tree.get(path)?.blob === entry.blob && tree.get(path)?.mode === entry.mode)
  return [...(await repository.tree(head))].filter(([path, entry]) => !known(path, entry)).map(([path]) => `checkpoint tree: ${JSON.stringify(path)} is neither as it was nor as it must be`)
}
