import type { JobResult } from '../job/result.js'
import { newRunRecord, type RunRecord } from '../job/run-record.js'

/**
 * How a run record stands in its run's hash, so that a write sends what has changed and an ended run holds nothing twice:
 *
 *   record       while it runs, the whole record as it was written once; of an ended run, what its result doesn't say (`leftOf`)
 *   r:FIELD      what has become of a field since, as JSON
 *   r:FIELD:N    what has become of entry N of a list that grows, as JSON
 *
 * A whole write clears the latter two; lua/run-save.lua says when there is one.
 */
const changePrefix = 'r:'

/** Lists whose entries are written one by one: each may hold the tails of a step's output. */
const growing: ReadonlySet<string> = new Set<keyof RunRecord>(['steps', 'attempts', 'milestones'])

/** The hash's fields that change a record into another, with their JSON; null where only the whole one does. */
export function changesBetween(before: RunRecord, after: RunRecord): [field: string, json: string][] | null {
  const [from, to] = [before as Readonly<Record<string, unknown>>, after as Readonly<Record<string, unknown>>]
  const changes: [string, string][] = []
  for (const name in from) if (from[name] !== undefined && to[name] === undefined) return null
  for (const name in to) {
    const was = from[name]
    const is = to[name]
    if (was === is) continue
    if (growing.has(name) && Array.isArray(was) && Array.isArray(is)) {
      if (is.length < was.length) return null
      for (const [index, entry] of is.entries()) pushChange(changes, `${changePrefix}${name}:${index}`, was[index], entry)
    } else {
      pushChange(changes, `${changePrefix}${name}`, was, is)
    }
  }
  return changes
}

function pushChange(changes: [string, string][], field: string, was: unknown, is: unknown): void {
  if (was === is) return
  const json = JSON.stringify(is)
  if (typeof was !== 'object' || JSON.stringify(was) !== json) changes.push([field, json])
}

/**
 * The record that a run's hash holds, not checked yet; undefined when it holds none.
 * @param result the run's, once it has ended.
 */
export function recordIn(hash: Readonly<Record<string, string | undefined>>, result: JobResult | null): unknown {
  const { record: json } = hash
  if (json === undefined) return undefined
  const stored: unknown = JSON.parse(json)
  if (typeof stored !== 'object' || stored === null) return stored
  const record = (result === null ? stored : withResult(stored, result, Number(hash['generation']))) as Record<string, unknown>
  for (const [field, change] of Object.entries(hash)) {
    if (change === undefined || !field.startsWith(changePrefix)) continue
    const [name = '', index] = field.slice(changePrefix.length).split(':')
    const value: unknown = JSON.parse(change)
    const list = record[name]
    if (index === undefined) record[name] = value
    // By their numbers, in whatever order they come.
    else if (Array.isArray(list)) list[Number(index)] = value
  }
  return record
}

/** What matters only to whoever has the job in hand. */
const ofItsCourse: ReadonlySet<string> = new Set<keyof RunRecord>([
  'creating',
  'sandbox',
  'next',
  'running',
  'firstSandboxAtMs',
  'setupIndex',
  'stepIndex',
  'promoteFrom',
  'brokeAtStep',
  'checkpointProblem',
  'descends',
  'resumes',
  'usedMs',
  'collected',
  'tenant',
  'budgeted',
  'parking',
])

/** Of the record of a run that ends what its result doesn't say, and somebody may still ask. Fields of a later release are kept. */
export function leftOf(record: RunRecord, result: JobResult): Record<string, unknown> {
  const implied = impliedBy(result, record.generation)
  const left: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(record)) {
    if (ofItsCourse.has(name)) continue
    const said = implied[name]
    if (value === said || areEmpty(value, said) || JSON.stringify(value) === JSON.stringify(said)) continue
    left[name] = name === 'base' && record.base?.sha === result.baseSha ? withoutSha(record.base) : value
  }
  return left
}

/** Most lists of most runs. */
const areEmpty = (value: unknown, said: unknown) => Array.isArray(value) && Array.isArray(said) && value.length + said.length === 0

function withoutSha(base: RunRecord['base']): object | null {
  if (base === null) return null
  const { sha: _sha, ...rest } = base
  return rest
}

function withResult(left: object, result: JobResult, generation: number): object {
  const implied = impliedBy(result, generation)
  const { base } = left as { base?: object | null }
  return { ...implied, ...left, ...(base == null ? {} : { base: { ...(implied['base'] as object | null), ...base } }) }
}

/** Never changed: what is made of it is compared, or checked into another. */
const blank = newRunRecord({ jobId: '', generation: 1, repository: '', startedAtMs: 0 })

function impliedBy(result: JobResult, generation: number): Record<string, unknown> {
  const { jobId, repository, baseSha, status, error, promoted, pullRequest, steps, attempts, diff, unsaved, unsavedMore, kept, usage } = result
  const [first] = attempts
  return {
    ...blank,
    jobId,
    generation,
    repository,
    phase: 'ended',
    ...(first === undefined ? {} : { startedAtMs: Date.parse(first.startedAt) }),
    base: baseSha === null ? null : { ref: null, sha: baseSha },
    outcome: { status, error },
    promoted,
    pullRequest,
    steps,
    attempts,
    diff,
    unsaved,
    unsavedMore,
    kept,
    usedMs: Math.round(usage.sandboxSeconds * 1000),
  }
}
