import { type DeadEvent, type EventGroups, type JobEvent, type KeptEvent, kindOf } from '../events/index.js'
import { harmlessValue } from '../job/harmless-text.js'
import { table } from './output.js'

/** How events and their readers look on a terminal. Pure functions. */

type Group = Awaited<ReturnType<EventGroups['list']>>[number]

/** What a line shows of an error, or of what can't be read. */
const shownCharacters = 200

/** One event, a line. */
export function eventLine(kept: KeptEvent<JobEvent>): string {
  const { event, sequence, json } = harmlessValue(kept)
  if (event === null) return `${sequence}  can't be read: ${shortened(json)}`
  const { repository } = event.data
  return [event.time, sequence, whatOf(event).padEnd(9), event.subject, repository, ...detailsOf(event)].join('  ')
}

/** In a word. */
function whatOf(event: JobEvent): string {
  return 'status' in event.data ? event.data.status : kindOf(event)
}

function detailsOf(event: JobEvent): string[] {
  switch (event.type) {
    case 'dev.switchyard.job.enqueued':
      return []
    case 'dev.switchyard.job.started':
      return [event.data.provider]
    case 'dev.switchyard.job.step.finished':
      return [`${event.data.step}: ${event.data.exitCode === null ? 'stopped' : `exit code ${event.data.exitCode}`}`]
    case 'dev.switchyard.job.checkpointed':
      return [event.data.branch, event.data.commit.slice(0, 12)]
    case 'dev.switchyard.job.moved':
      return [`${event.data.from.provider} → ${event.data.to.provider}`]
    case 'dev.switchyard.job.parked':
      return [shortened(event.data.reason)]
    case 'dev.switchyard.job.promoted':
      return [event.data.to, event.data.commit.slice(0, 12)]
    default:
      return event.data.error === null ? [] : [shortened(event.data.error.message)]
  }
}

/** Groups of readers, a line each. */
export function groupsTable(groups: readonly Group[]): string {
  if (groups.length === 0) return 'no group reads events yet; one is made by subscribe()'
  const shown = harmlessValue(groups)
  const rows = table(
    ['GROUP', 'UNREAD', 'UNDER WAY', 'DEAD', 'DIED', 'REMOVED', 'MISSED'],
    shown.map(({ group, unread, pending, deadLetters, died, dropped, missed }) => [group, ...[unread, pending, deadLetters, died, dropped, missed].map(String)]),
  )
  return [rows, ...shown.flatMap(({ group, stopped }) => (stopped === null ? [] : [`${group} is stopped since ${new Date(stopped.atMs).toISOString().slice(0, 19)}Z: ${shortened(stopped.why)}; mend the receiver, then: switchyard events resume --group ${group}`]))].join('\n')
}

/** Events that groups have given up, a line each. */
export function deadTable(dead: readonly (DeadEvent & { readonly group: string })[]): string {
  if (dead.length === 0) return 'no dead events'
  return table(
    ['ID', 'GROUP', 'JOB', 'STATUS', 'DIED', 'ATTEMPTS', 'ERROR'],
    harmlessValue(dead).map(({ id, group, event, attempts, error, diedAtMs }) => [id, group, event?.subject ?? '-', event === null ? "can't be read" : whatOf(event), `${new Date(diedAtMs).toISOString().slice(0, 19)}Z`, String(attempts), shortened(error)]),
  )
}

function shortened(text: string): string {
  return text.length <= shownCharacters ? text : `${text.slice(0, shownCharacters)}…`
}
