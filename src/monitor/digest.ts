import { counted } from '../job/counted.js'
import type { JobView } from '../job/fleet.js'
import { harmlessLine } from '../job/harmless-text.js'
import type { JobStatus } from '../job/status.js'
import type { Links } from '../job/page-links.js'
import { line, money, tail, took } from './pages/text.js'
import { stepName } from '../job/step-name.js'

/** What Bull Board says of a job at a glance. Pure functions; all of it is for showing, and bounded. */

/** Between the parts of a job's name: its repository, its first step, its state. */
export const separator = ' · '

const longestState = 300
const mostAttempts = 10
const mostSteps = 10

/** As far as a job's name is told from it. */
export interface NamedJob {
  readonly name?: string | undefined
  readonly data?: unknown
  readonly progress?: unknown
  readonly failedReason?: string | undefined
  readonly finishedOn?: number | null | undefined
  readonly returnvalue?: unknown
}

/** Such as `acme/web · agent · 2/3 npm test at e2b`. */
export function nameOf(job: NamedJob): string {
  const parts = [line(job.name ?? ''), firstStepOf(job.data), stateOf(job)]
  return parts.filter((part) => part !== '').join(separator)
}

function firstStepOf(data: unknown): string {
  const steps = field(field(data, 'spec'), 'steps')
  if (!Array.isArray(steps) || steps.length === 0) return ''
  const name = field(steps[0], 'name')
  return line(typeof name === 'string' ? name : stepName(0), 60)
}

function stateOf({ progress, failedReason, finishedOn, returnvalue }: NamedJob): string {
  if (typeof finishedOn === 'number') {
    if (typeof failedReason === 'string' && failedReason !== '') return line(/^(failed|cancelled):/.test(failedReason) ? failedReason : `failed: ${failedReason}`, longestState)
    const status = field(returnvalue, 'status')
    return typeof status === 'string' ? line(status, 20) : 'ended'
  }
  const text = (name: string) => {
    const value = field(progress, name)
    return typeof value === 'string' && value !== '' ? value : null
  }
  const waiting = text('waiting')
  if (waiting !== null) return line(waiting, longestState)
  const where = text('step') ?? text('phase')
  if (where === null) return 'waiting'
  const provider = text('provider')
  return line(`${where}${provider === null ? '' : ` at ${provider}`}`, longestState)
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined
}

/** What more is known of a job that is looked at by itself. */
export type Course = Pick<JobView, 'attempts' | 'stepResults' | 'promoteTo'>

/**
 * What Bull Board shows as a job's progress, the most important first; what there is none of is left out.
 * @param course left out in a list, where nothing is looked up for it.
 */
export function digestOf(status: JobStatus, links: Links, course?: Course): Record<string, unknown> {
  const { result, repository } = status
  const attempts = result?.attempts ?? course?.attempts ?? []
  const last = result?.steps.at(-1)
  const commit = result?.commit ?? status.checkpointSha
  const stderr = last === undefined || last.exitCode === 0 ? '' : tail(last.stderrTail, 15, 3_000)
  const digest = {
    status: status.state,
    waiting: status.reason === null ? null : line(status.reason, 500),
    error: result?.error == null ? null : line(result.error.message, 500),
    phase: result === null && status.phase !== null ? line(status.phase, 60) : null,
    step: status.step === null ? (last === undefined ? null : line(last.name)) : line(status.step),
    exitCode: last?.exitCode ?? null,
    stderr: stderr === '' ? null : stderr.split('\n').map((each) => harmlessLine(each)),
    provider: status.provider === null ? null : line(status.provider, 60),
    steps: stepsOf(result?.steps ?? course?.stepResults ?? []),
    attempts: attempts.length === 0 ? (status.attempts === 0 ? null : status.attempts) : attemptsOf(attempts),
    branch: result?.branch == null ? null : line(result.branch, 200),
    branchUrl: links.branch(repository, result?.branch ?? null),
    commit: commit === null ? null : line(commit, 40),
    commitUrl: links.commit(repository, commit),
    diff: result?.diff == null ? null : `${counted(result.diff.files, 'file')}, +${result.diff.additions} −${result.diff.deletions}`,
    diffUrl: result === null ? null : links.compare(repository, result.baseSha, result.commit),
    promotes: result?.promoted == null && course?.promoteTo != null ? `to ${line(course.promoteTo, 200)}` : null,
    promoted: result?.promoted == null ? null : `${line(result.promoted.to, 200)} (${result.promoted.result})`,
    pullRequest: result?.pullRequest == null ? null : line(result.pullRequest.url, 500),
    cost: status.cost === null ? null : money(status.cost),
    sandboxTime: result === null ? null : took(1000 * result.usage.sandboxSeconds),
  }
  return Object.fromEntries(Object.entries(digest).filter(([, value]) => value !== null))
}

function stepsOf(steps: JobView['stepResults']): string[] | null {
  if (steps.length === 0) return null
  const shown = steps.slice(-mostSteps).map(({ name, exitCode, durationMs }) => `${line(name, 100)}: ${exitCode === null ? 'did not end' : `exit code ${exitCode}`}, ${took(durationMs)}`)
  return steps.length > shown.length ? [counted(steps.length - shown.length, 'earlier one'), ...shown] : shown
}

function attemptsOf(attempts: JobView['attempts']): string[] {
  const shown = attempts.slice(-mostAttempts).map(({ provider, outcome, error }, index, all) => `${attempts.length - all.length + index + 1}. ${line(provider, 60)}: ${outcome}${error === null ? '' : ` (${line(error.message, 200)})`}`)
  return attempts.length > shown.length ? [counted(attempts.length - shown.length, 'earlier one'), ...shown] : shown
}
