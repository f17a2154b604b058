import { counted } from '../../job/counted.js'
import type { JobView } from '../../job/fleet.js'
import { line, took } from './text.js'

/**
 * A job's course as bars and marks on one scale of time, and as rows of a table. Pure: what is drawn is decided here.
 *
 * The scale has two parts: what the job waited in the queue takes at most a fifth of the width, however long it was; the run has the rest.
 */
export interface Bar {
  readonly lane: 'waits' | 'sandboxes' | 'steps'
  /** What it looks like; each is told by its words too. */
  readonly tone: 'wait' | 'good' | 'bad' | 'now' | 'plain'
  /** In hundredths of the width. */
  readonly from: number
  readonly width: number
  readonly label: string
}

export interface Mark {
  readonly kind: 'saved' | 'taken'
  readonly at: number
  readonly label: string
}

export interface CourseRow {
  readonly at: string
  readonly what: string
  readonly detail: string
  readonly took: string
  readonly outcome: string
}

export interface Course {
  readonly bars: readonly Bar[]
  readonly marks: readonly Mark[]
  readonly ticks: readonly { readonly at: number; readonly label: string }[]
  readonly rows: readonly CourseRow[]
  /** Rows there was no room for. */
  readonly more: number
  /** The whole in a sentence, for who does not see the picture. */
  readonly summary: string
}

const queueShare = 20
const mostRows = 150
const leastWidth = 0.3

interface Event {
  readonly fromMs: number
  readonly untilMs: number
  readonly row: Omit<CourseRow, 'at' | 'took'>
  readonly bar?: Pick<Bar, 'lane' | 'tone' | 'label'>
  readonly mark?: Pick<Mark, 'kind' | 'label'>
}

export function courseOf({ status, milestones, attempts, atMs }: Pick<JobView, 'status' | 'milestones' | 'attempts' | 'atMs'>): Course {
  const beganMs = status.startedAtMs ?? attempts.map(({ startedAt }) => Date.parse(startedAt)).sort((one, other) => one - other)[0] ?? null
  const endMs = Math.max(status.endedAtMs ?? atMs, beganMs ?? 0, status.enqueuedAtMs)
  const events = [
    ...queueEvent(status.enqueuedAtMs, beganMs ?? endMs, status.reason),
    ...(beganMs === null ? [] : milestones.flatMap((entry) => milestoneEvent(entry, beganMs, endMs, status.result !== null))),
    ...attemptEvents(attempts, endMs),
  ].sort((one, other) => one.fromMs - other.fromMs)
  const scale = scaleOf(status.enqueuedAtMs, beganMs ?? endMs, endMs)
  const bars = events.flatMap(({ bar, fromMs, untilMs }) => {
    if (bar === undefined) return []
    const from = scale(fromMs)
    return [{ ...bar, from, width: Math.max(leastWidth, scale(untilMs) - from) }]
  })
  const marks = events.flatMap(({ mark, untilMs }) => (mark === undefined ? [] : [{ ...mark, at: scale(untilMs) }]))
  const zeroMs = beganMs ?? status.enqueuedAtMs
  const rows = events.slice(0, mostRows).map(({ fromMs, untilMs, row }) => ({ ...row, at: fromMs < zeroMs ? `−${took(zeroMs - fromMs)}` : `+${took(fromMs - zeroMs)}`, took: took(untilMs - fromMs) }))
  const count = (what: string) => events.filter(({ row }) => row.what === what).length
  const summary = `Waited ${took((beganMs ?? endMs) - status.enqueuedAtMs)} in the queue, ${beganMs === null ? 'not begun yet' : `ran ${took(endMs - beganMs)}`}; ${counted(count('sandbox'), 'sandbox', 'sandboxes')}, ${counted(count('step') + count('setup'), 'step')}, ${counted(count('checkpoint'), 'row')} of checkpoints, ${counted(count('hand-over'), 'hand-over')}.`
  return { bars, marks, ticks: ticksOf(zeroMs, endMs, scale), rows, more: Math.max(0, events.length - mostRows), summary }
}

function queueEvent(fromMs: number, untilMs: number, reason: string | null): Event[] {
  if (untilMs <= fromMs) return []
  const label = `in the queue ${took(untilMs - fromMs)}`
  return [{ fromMs, untilMs, row: { what: 'wait', detail: `in the queue${reason === null ? '' : `, ${line(reason)}`}`, outcome: '' }, bar: { lane: 'waits', tone: 'wait', label } }]
}

function milestoneEvent([kind, at, until, text, number]: JobView['milestones'][number], beganMs: number, endMs: number, ended: boolean): Event[] {
  const fromMs = Math.min(beganMs + at, endMs)
  const untilMs = until === null ? endMs : Math.min(Math.max(fromMs, beganMs + until), endMs)
  const open = until === null && !ended
  const detail = line(text)
  switch (kind) {
    case 'step':
    case 'setup': {
      const outcome = open ? 'running' : number === null ? 'stopped before its end' : `exit ${number}`
      const tone = open ? 'now' : number === 0 ? 'good' : number === null ? 'plain' : 'bad'
      return [{ fromMs, untilMs, row: { what: kind, detail, outcome }, bar: { lane: 'steps', tone, label: `${detail}${outcome === 'exit 0' ? '' : `, ${outcome}`}` } }]
    }
    case 'phase': {
      const name = phaseNames[text] ?? detail
      return [{ fromMs, untilMs, row: { what: 'phase', detail: name, outcome: open ? 'running' : '' }, bar: { lane: 'steps', tone: open ? 'now' : 'plain', label: name } }]
    }
    case 'wait':
      return [{ fromMs, untilMs, row: { what: 'wait', detail, outcome: open ? 'waiting' : '' }, bar: { lane: 'waits', tone: 'wait', label: detail } }]
    case 'saved': {
      const count = number ?? 1
      const label = count === 1 ? `checkpoint ${detail}` : `${counted(count, 'checkpoint')}, the last ${detail}`
      return [{ fromMs, untilMs, row: { what: 'checkpoint', detail: label, outcome: 'saved' }, mark: { kind: 'saved', label } }]
    }
    case 'taken':
      return [{ fromMs, untilMs, row: { what: 'hand-over', detail: `to consumer ${detail}`, outcome: '' }, mark: { kind: 'taken', label: `handed over to ${detail}` } }]
    case 'more':
      return [{ fromMs, untilMs, row: { what: 'more', detail: `${number ?? 0} further entries`, outcome: '' } }]
    // Of a later release.
    default:
      return [{ fromMs, untilMs, row: { what: line(kind, 20), detail, outcome: '' } }]
  }
}

const phaseNames: Readonly<Record<string, string>> = { preparing: 'clone', pushing: 'push', promoting: 'promote' }

function attemptEvents(attempts: JobView['attempts'], endMs: number): Event[] {
  return attempts.flatMap(({ provider, sandboxId, startedAt, endedAt, outcome, error }, index) => {
    const fromMs = Date.parse(startedAt)
    const untilMs = endedAt === null ? endMs : Date.parse(endedAt)
    if (!Number.isFinite(fromMs) || !Number.isFinite(untilMs)) return []
    const name = line(provider, 60)
    const tone = outcome === 'running' ? 'now' : outcome === 'succeeded' ? 'good' : outcome === 'moved' || outcome === 'cancelled' ? 'plain' : 'bad'
    const why = error === null ? '' : `: ${line(error.message)}`
    const row = { what: 'sandbox', detail: `${index + 1}. ${name}${sandboxId === null ? '' : ` ${line(sandboxId, 40)}`}`, outcome: `${outcome}${why}` }
    return [{ fromMs: Math.min(fromMs, endMs), untilMs: Math.min(Math.max(fromMs, untilMs), endMs), row, bar: { lane: 'sandboxes' as const, tone, label: `${index + 1}. ${name}, ${outcome}` } } satisfies Event]
  })
}

/** Hundredths of the width for a time. */
function scaleOf(enqueuedMs: number, beganMs: number, endMs: number): (atMs: number) => number {
  const [waitMs, runMs] = [Math.max(0, beganMs - enqueuedMs), Math.max(0, endMs - beganMs)]
  const share = runMs === 0 ? 100 : Math.min(queueShare, (100 * waitMs) / (waitMs + runMs))
  return (atMs) => {
    const at = atMs < beganMs ? (waitMs === 0 ? 0 : (share * (atMs - enqueuedMs)) / waitMs) : share + (runMs === 0 ? 0 : ((100 - share) * (atMs - beganMs)) / runMs)
    return Math.round(100 * Math.min(100, Math.max(0, at))) / 100
  }
}

const tickSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800].map((seconds) => seconds * 1000)

/** About four times of the run. */
function ticksOf(zeroMs: number, endMs: number, scale: (atMs: number) => number): Course['ticks'] {
  const runMs = endMs - zeroMs
  const step = tickSteps.find((each) => runMs / each <= 4) ?? runMs / 4
  const ticks: { at: number; label: string }[] = []
  if (step > 0) for (let at = 0; at <= runMs && ticks.length < 6; at += step) ticks.push({ at: scale(zeroMs + at), label: at === 0 ? '0' : tickText(at) })
  return ticks
}

function tickText(ms: number): string {
  if (ms < 60_000) return `${Math.round(ms / 1000)} s`
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} m`
  return `${Math.round((10 * ms) / 3_600_000) / 10} h`
}
