import type { DeadEvent, EventGroups, KeptEvent } from '../events/index.js'
import { harmlessValue } from '../job/harmless-text.js'
import { table } from './output.js'

/** How completion events and their readers look on a terminal. Pure functions. */

type Group = Awaited<ReturnType<EventGroups['list']>>[number]

/** What a line shows of an error, or of what can't be read. */
const shownCharacters = 200

/** One event, a line. */
export function eventLine(kept: KeptEvent): string {
  const { event, sequence, json } = harmlessValue(kept)
  if (event === null) return `${sequence}  can't be read: ${shortened(json)}`
  const { status, repository, error } = event.data
  return [event.time, sequence, status.padEnd(9), event.subject, repository, ...(error === null ? [] : [shortened(error.message)])].join('  ')
}

/** Groups of readers, a line each. */
export function groupsTable(groups: readonly Group[]): string {
  if (groups.length === 0) return 'no group reads events yet; one is made by subscribe()'
  return table(
    ['GROUP', 'UNREAD', 'UNDER WAY', 'DEAD', 'DIED', 'REMOVED', 'MISSED'],
    harmlessValue(groups).map(({ group, unread, pending, deadLetters, died, dropped, missed }) => [group, ...[unread, pending, deadLetters, died, dropped, missed].map(String)]),
  )
}

/** Events that groups have given up, a line each. */
export function deadTable(dead: readonly (DeadEvent & { readonly group: string })[]): string {
  if (dead.length === 0) return 'no dead events'
  return table(
    ['ID', 'GROUP', 'JOB', 'STATUS', 'DIED', 'ATTEMPTS', 'ERROR'],
    harmlessValue(dead).map(({ id, group, event, attempts, error, diedAtMs }) => [id, group, event?.subject ?? '-', event?.data.status ?? "can't be read", `${new Date(diedAtMs).toISOString().slice(0, 19)}Z`, String(attempts), shortened(error)]),
  )
}

function shortened(text: string): string {
  return text.length <= shownCharacters ? text : `${text.slice(0, shownCharacters)}…`
}
