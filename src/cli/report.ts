import { describeMicros } from '../job/cost.js'
import { harmlessLine, harmlessText, harmlessValue } from '../job/harmless-text.js'
import type { JobResult } from '../job/result.js'
import type { JobStatus } from '../job/status.js'
import { clockTime, describeWord, type KeptAuditEntry, type KeyTrouble, type LiveConsumer, type ProviderLoad, type TenantStanding } from '../store/index.js'
import { counted, elapsed, fields, table } from './output.js'

/** How jobs look on a terminal. Pure functions, whose parts jobs may have named: each is made harmless before it is put among ours. */

/** One job, all of it. */
export function statusReport(found: JobStatus, nowMs: number): string {
  const status = harmlessValue(found)
  const lines = [
    `job         ${status.jobId}`,
    `repository  ${status.repository}`,
    `state       ${status.state}${status.reason === null ? '' : ` (${status.reason})`}`,
  ]
  if (status.phase !== null) lines.push(`phase       ${status.phase}`)
  if (status.step !== null) lines.push(`step        ${status.step}`)
  if (status.provider !== null) lines.push(`sandbox     ${status.sandboxId ?? 'under way'} at ${status.provider}`)
  if (status.attempts > 0) lines.push(`attempts    ${status.attempts}`)
  if (status.result === null && status.cost !== null) lines.push(`cost        ${describeMicros(status.cost.micros, status.cost.currency)} so far`)
  const checkpoint = [status.checkpointSha, status.checkpointProblem].filter((part) => part !== null)
  if (checkpoint.length > 0) lines.push(`checkpoint  ${checkpoint.join('; ')}`)
  // Of an ended job its result says it.
  if (status.result === null) lines.push(...unsavedLines(status))
  lines.push(`elapsed     ${elapsed((status.endedAtMs ?? nowMs) - (status.startedAtMs ?? status.enqueuedAtMs))}`)
  return [lines.join('\n'), ...(status.result === null ? [] : [resultReport(status.result)])].join('\n')
}

/** Many jobs, a line each. */
export function statusTable(statuses: readonly JobStatus[], nowMs: number): string {
  return table(
    ['JOB', 'STATE', 'REPOSITORY', 'PROVIDER', 'STEP', 'ATTEMPTS', 'ELAPSED'],
    harmlessValue(statuses).map((status) => [
      status.jobId,
      status.state,
      status.repository,
      status.provider ?? '-',
      status.step ?? status.phase ?? '-',
      String(status.attempts),
      elapsed((status.endedAtMs ?? nowMs) - (status.startedAtMs ?? status.enqueuedAtMs)),
    ]),
  )
}

/** What the providers hold, a line each. */
export function providersTable(loads: readonly ProviderLoad[]): string {
  if (loads.length === 0) return 'no consumer has asked for a place at a provider yet; start one with "switchyard consume"'
  return table(
    ['PROVIDER', 'LIMIT', 'NOW', 'IN USE', 'FOREIGN', 'WAITING', 'CPU', 'MEMORY', 'BREAKER', 'CREATES', 'START P50/P95'],
    harmlessValue(loads).map((load) => [
      load.provider,
      load.set === null ? String(load.limit) : `${load.limit} (${load.configuredLimit})`,
      String(load.effectiveLimit),
      String(load.used),
      String(load.foreign),
      String(load.waiting),
      load.cpuLimit === null ? '-' : `${load.cpu}/${load.cpuLimit}`,
      load.memoryMiBLimit === null ? '-' : `${load.memoryMiB}/${load.memoryMiBLimit} MiB`,
      breakerText(load),
      load.blockedUntilMs !== null ? `none until ${clockTime(load.blockedUntilMs)}` : load.createsPerSecond === null ? '-' : `${Number(load.createsPerSecond.toFixed(2))}/s`,
      load.startP50Ms === null || load.startP95Ms === null ? '-' : `${elapsed(load.startP50Ms)} / ${elapsed(load.startP95Ms)}`,
    ]),
  )
}

/** What operators say of providers, a line each. */
export function operatedLines(loads: readonly ProviderLoad[]): string[] {
  return harmlessValue(loads).flatMap(({ provider, drain, set, configuredLimit }) => [
    ...(drain === null ? [] : [`${provider}: drained ${describeWord(drain)}${drain.move ? '; jobs that run there are asked to move' : ''}`]),
    ...(set === null ? [] : [`${provider}: limited to ${set.limit} of the configured ${configuredLimit} ${describeWord(set)}`]),
  ])
}

/** How tenants share the places, a line each; then what operators say of them. */
export function tenantsTable(found: readonly TenantStanding[]): string {
  if (found.length === 0) return 'no tenant has jobs, or had until lately'
  const tenants = harmlessValue(found)
  const rows = tenants.map(({ tenant, running, cap, weight, pause }) => [tenant, String(running), cap === null ? '-' : String(cap), String(weight), pause === null ? '' : 'paused'])
  const notes = tenants.flatMap(({ tenant, pause, set }) => [
    ...(pause === null ? [] : [`${tenant}: paused ${describeWord(pause)}`]),
    ...(set === null ? [] : [`${tenant}: share set ${describeWord(set)}`]),
  ])
  return [table(['TENANT', 'RUNNING', 'CAP', 'WEIGHT', 'STATE'], rows), ...notes].join('\n')
}

/** The live consumers, a line each. @param nowMs milliseconds since 1970. */
export function consumersTable(found: readonly LiveConsumer[], nowMs: number): string {
  if (found.length === 0) return 'no consumer is live; start one with "switchyard consume"'
  const rows = harmlessValue(found).map(({ consumer, queue, release, host, pid, running, places, providers, troubles, draining, startedAtMs, seenAtMs }) => [
    consumer,
    queue,
    host === null ? '-' : `${host}/${pid ?? '-'}`,
    release,
    running === null ? '-' : `${running}/${places ?? '-'}`,
    providers.join(', '),
    troubles.length === 0 ? 'ok' : troubles.map(({ of }) => `${of} refused`).join(', '),
    elapsed(Math.max(0, nowMs - startedAtMs)),
    seenAtMs === null ? '-' : `${elapsed(Math.max(0, nowMs - seenAtMs))} ago`,
    draining ? 'draining' : 'live',
  ])
  return table(['CONSUMER', 'QUEUE', 'HOST/PID', 'RELEASE', 'JOBS', 'PROVIDERS', 'KEYS', 'UP', 'SEEN', 'STATE'], rows)
}

/** Who did what, a line each. */
export function auditTable(entries: readonly KeptAuditEntry[]): string {
  if (entries.length === 0) return 'nobody has done anything yet'
  const rows = harmlessValue(entries).map(({ atMs, by, name, action, targets, count, status, before, after }) => [
    `${new Date(atMs).toISOString().slice(0, 19)}Z`,
    name === '' ? by : `${name} (${by})`,
    action,
    `${targets.slice(0, 3).join(', ')}${count > 3 ? ` and ${count - 3} more` : ''}`,
    String(status),
    before === undefined && after === undefined ? '' : `${JSON.stringify(before ?? null)} -> ${JSON.stringify(after ?? null)}`,
  ])
  return table(['WHEN', 'WHO', 'WHAT', 'OF', 'STATUS', 'CHANGE'], rows)
}

/** A key that is refused to a consumer. */
export interface RefusedKey extends KeyTrouble {
  readonly consumer: string
}

export function refusedKeys(consumers: readonly Pick<LiveConsumer, 'consumer' | 'troubles'>[]): RefusedKey[] {
  return consumers.flatMap(({ consumer, troubles }) => troubles.map((trouble) => ({ consumer, ...trouble })))
}

export function refusedKeyLine({ consumer, of, message, sinceMs }: RefusedKey): string {
  return harmlessLine(`${of}: refused to ${consumer} since ${clockTime(sinceMs)}: ${message}`)
}

function breakerText({ breaker, openUntilMs, openedBy }: ProviderLoad): string {
  return breaker === 'open' && openUntilMs !== null ? `open until ${clockTime(openUntilMs)} (${openedBy ?? 'down'})` : breaker
}

/** How a job ended: branch, commit, diffstat, steps and attempts. */
export function resultReport(ended: JobResult): string {
  const result = harmlessValue(ended)
  const lines = [`result      ${result.status}${result.error === null ? '' : `: ${result.error.message} (${result.error.kind})`}`]
  if (result.branch !== null) lines.push(`branch      ${result.branch} at ${result.commit ?? '-'}`)
  if (result.promoted !== null) lines.push(`promoted    ${result.promoted.to} at ${result.promoted.sha} (${result.promoted.result})`)
  if (result.pullRequest !== null) lines.push(`pull req.   ${result.pullRequest.url} (${result.pullRequest.action})`, ...result.pullRequest.problems.map((problem) => `pull req.   ${problem}`))
  if (result.diff !== null) lines.push(`diff        ${diffstat(result.diff)}`)
  lines.push(...unsavedLines(result))
  lines.push(...artifactLines(result))
  for (const { branch, commit, ref } of result.kept) lines.push(`kept        ${branch} at ${commit} (${ref})`)
  if (result.usage.cost !== undefined) lines.push(`cost        ${describeMicros(result.usage.cost.micros, result.usage.cost.currency)}`)
  for (const step of result.steps) {
    lines.push(`step        ${step.name}: ${step.exitCode === null ? 'stopped' : `exit ${step.exitCode}`} after ${elapsed(step.durationMs)}`)
  }
  result.attempts.forEach((attempt, index) => {
    const reason = attempt.error === null ? '' : `: ${attempt.error.message} (${attempt.error.kind})`
    lines.push(`attempt ${String(index + 1).padEnd(4)}${attempt.outcome} at ${attempt.provider} ${fields({ sandbox: attempt.sandboxId })}${reason}`.trimEnd())
  })
  return lines.join('\n')
}

/** How many artifacts are named, and how many that were missed; `switchyard artifacts` shows them all. */
const namedArtifacts = 10

function artifactLines({ artifacts, artifactsMissed, artifactsMissedMore, tests }: JobResult): string[] {
  const named = artifacts.slice(0, namedArtifacts)
  const missed = artifactsMissed.slice(0, namedArtifacts)
  const missedMore = artifactsMissed.length - missed.length + artifactsMissedMore
  return [
    ...named.map(({ path, sizeBytes, mediaType }) => `artifact    ${path} (${counted(sizeBytes, 'byte')}, ${mediaType})`),
    ...(artifacts.length === named.length ? [] : [`artifact    ${artifacts.length - named.length} more`]),
    ...missed.map(({ path, reason }) => `not stored  ${path}: ${reason}`),
    ...(missedMore === 0 ? [] : [`not stored  ${missedMore} more`]),
    ...(tests === null ? [] : testLines(tests)),
  ]
}

/** All of a job's artifacts, and what could not be had. */
export function artifactsReport(ended: JobResult): string {
  const { artifacts, artifactsMissed, artifactsMissedMore, tests } = harmlessValue(ended)
  const rows = artifacts.map(({ path, sizeBytes, mediaType, sha256, where }) => [path, String(sizeBytes), mediaType, sha256.slice(0, 12), where])
  return [
    artifacts.length === 0 ? 'no artifacts' : table(['PATH', 'BYTES', 'TYPE', 'SHA256', 'WHERE'], rows),
    ...artifactsMissed.map(({ path, reason }) => `not stored  ${path}: ${reason}`),
    ...(artifactsMissedMore === 0 ? [] : [`not stored  ${artifactsMissedMore} more`]),
    ...(tests === null ? [] : testLines(tests)),
  ].join('\n')
}

function testLines({ tests, failures, errors, skipped, timeSeconds, failing }: NonNullable<JobResult['tests']>): string[] {
  const named = failing.slice(0, namedArtifacts).map(({ of, name, message }) => `test        ${[of, name].filter((part) => part !== '').join(' > ')}${message === '' ? '' : `: ${message}`}`)
  return [`tests       ${counted(tests, 'test')} in ${elapsed(timeSeconds * 1000)}, ${failures + errors} failed, ${skipped} skipped`, ...named]
}

/** How many lines of a failed step's output are shown again. */
const lastLines = 10

/** The last lines of the step that failed, for somebody who has not read, or can't find, what went before. Empty when none did. */
export function failedOutput({ status, steps }: JobResult): string {
  const step = steps.at(-1)
  if (status === 'succeeded' || step === undefined || step.exitCode === 0) return ''
  const shown = ([['', step.stdoutTail], [' stderr', step.stderrTail]] as const).flatMap(([stream, tail]) => {
    const lines = tail.replace(/\n$/, '').split('\n').slice(-lastLines)
    return tail.trim() === '' ? [] : lines.map((line) => `  ${harmlessLine(step.name)}${stream} | ${harmlessText(line.replace(/\r$/, ''))}`)
  })
  return shown.length === 0 ? '' : [`the last lines of ${harmlessLine(step.name)}:`, ...shown].join('\n')
}

/** How many paths are named. */
const namedUnsaved = 10

function unsavedLines({ unsaved, unsavedMore }: Pick<JobStatus, 'unsaved' | 'unsavedMore'>): string[] {
  const named = unsaved.slice(0, namedUnsaved)
  const more = unsaved.length - named.length + unsavedMore
  return [...named.map(({ path, reason }) => `not saved   ${path}: ${reason}`), ...(more === 0 ? [] : [`not saved   ${more} more`])]
}

export function diffstat(diff: NonNullable<JobResult['diff']>): string {
  return `${counted(diff.files, 'file')} changed, +${diff.additions} -${diff.deletions}${diff.paths.length === 0 ? '' : ` (${diff.paths.slice(0, 5).join(', ')}${diff.paths.length > 5 ? ', …' : ''})`}`
}
