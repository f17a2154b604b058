import type { Fleet, JobView } from '../../src/job/fleet.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobStatus } from '../../src/job/status.js'

/** What pages show, with something in every field, and any text in the place of each. */

/** An object in which every text is another's; what is named stays. */
export function withTexts<Value>(value: Value, text: string, fixed: ReadonlySet<string>): Value {
  const made = (part: unknown, name: string): unknown => {
    if (typeof part === 'string') return fixed.has(name) ? part : text
    if (Array.isArray(part)) return part.map((each) => made(each, name))
    return typeof part === 'object' && part !== null ? Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, made(inner, key)])) : part
  }
  return made(value, '') as Value
}
/** What the schemas fix. */
export const fixed = new Set(['state', 'status', 'breaker', 'startedAt', 'endedAt', 'outcome', 'kind', 'result', 'action', 'url'])

const error = { kind: 'step-failed' as const, message: 'm', owner: 'job' as const, code: 'c' }
const result: JobResult = {
  jobId: 'j', status: 'failed', error, repository: 'r', baseSha: 'b', branch: 'br', commit: 'co', promoted: { to: 't', sha: 's', result: 'created' },
  pullRequest: { number: 1, url: 'https://git.example/1', base: 'b', action: 'opened', problems: ['p'] },
  steps: [{ name: 'n', exitCode: 1, durationMs: 1, stdoutTail: 'o', stderrTail: 'e' }],
  attempts: [{ provider: 'p', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:01:00.000Z', outcome: 'lost', error }],
  diff: { files: 2, additions: 1, deletions: 1, paths: ['p', 'q'] }, unsaved: [{ path: 'p', reason: 'r' }], unsavedMore: 0, kept: [{ branch: 'b', commit: 'c', ref: 'r' }],
  artifacts: [{ path: 'p', sizeBytes: 1, mediaType: 'm', sha256: 's', where: 'w', from: 'sandbox' }], artifactsMissed: [], artifactsMissedMore: 0,
  tests: { reports: 1, tests: 1, failures: 1, errors: 0, skipped: 1, timeSeconds: 1, failing: [{ of: 'o', name: 'n', message: 'm' }] },
  usage: { sandboxSeconds: 1, cost: { micros: 1, currency: 'c' } }, metadata: { some: 'm' }, tenant: 't',
}
export const status: JobStatus = {
  jobId: 'j', repository: 'r', tenant: 't', state: 'failed', reason: 'w', phase: 'p', provider: 'p', sandboxId: 's', step: 's', attempts: 1, checkpointSha: 'c', checkpointProblem: 'c', unsaved: [], unsavedMore: 0,
  enqueuedAtMs: 1_767_225_500_000, startedAtMs: 1_767_225_600_000, endedAtMs: 1_767_225_700_000, result, cost: { micros: 1, currency: 'c' },
}
export const view: JobView = {
  atMs: 1_767_225_800_000, status, run: 2, consumer: 'c', attempts: result.attempts, stepResults: result.steps, steps: ['n', 'n2'], promoteTo: 'p', patch: { commit: 'co', known: true, files: [{ path: 'p', text: '@@ -1 +1 @@\n-o\n+n\n', cut: true }, { path: 'q', text: 't', cut: false }] }, output: 'o', outputCut: true,
  milestones: [['step', 0, 10, 'n', 1], ['wait', 10, 20, 'w', null], ['saved', 20, 30, 's', 2], ['taken', 30, 30, 'c', null], ['phase', 30, 40, 'x', null], ['more', 40, 40, '', 7], ['other', 50, 50, 'o', null]],
}
export const fleet: Fleet = {
  atMs: 1_767_225_800_000, queue: 'q', paused: true, pausedBy: 'p', counts: { inHand: 1, waiting: 5, delayed: 1, succeeded: 1, failed: 1 },
  providers: [{ provider: 'p', limit: 5, effectiveLimit: 3, drained: null, limited: 'l', foreign: 1, used: 3, waiting: 1, cpu: 1, cpuLimit: 2, memoryMiB: 1, memoryMiBLimit: 2, breaker: 'open', openUntilMs: 1_767_225_900_000, openedBy: 'd', blockedUntilMs: 1, startP50Ms: 1, startP95Ms: 2 }, { provider: 'd', limit: 5, effectiveLimit: 5, drained: 'd', limited: null, foreign: 0, used: 0, waiting: 0, cpu: 1, cpuLimit: null, memoryMiB: 1, memoryMiBLimit: null, breaker: 'closed', openUntilMs: null, openedBy: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null }],
  consumers: [{ consumer: 'c', queue: 'q', release: 'r', providers: ['p'], jobs: 1, maxJobs: 2, full: true, draining: true, startedAtMs: 1, troubles: [{ of: 'o', message: 'm', sinceMs: 1 }] }], consumersMore: 3,
  waiting: { looked: 1, reasons: [{ reason: 'r', jobs: 1 }, { reason: null, jobs: 1 }], next: [{ jobId: 'j', repository: 'r', tenant: 't', enqueuedAtMs: 1, reason: 'r' }] },
  tenants: [{ tenant: 't', running: 1, cap: 2, weight: 1, paused: 'b' }, { tenant: 'u', running: 1, cap: 2, weight: 1, paused: null }], tenantsMore: 1_234,
  running: [{ jobId: 'j', repository: 'r', tenant: 't', phase: 'steps', provider: 'p', step: 's', attempt: 2, reason: null, consumer: 'c', startedAtMs: 1, enqueuedAtMs: 1, cost: { micros: 1, currency: 'c' }, lastLine: 'l' }], runningMore: 9,
  ended: [{ jobId: 'j', repository: 'r', status: 'failed', reason: 'r', endedAtMs: 1 }],
}
