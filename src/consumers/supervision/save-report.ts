import { escapedLine } from '../../job/harmless-text.js'
import type { UnsavedPath } from '../../job/result.js'
import type { SaveReport } from '../../runner/runner.js'
import type { RunContext } from '../run-context.js'

/** What a save could not hold, as records and results have it. */
export interface Unsaved {
  readonly unsaved: UnsavedPath[]
  /** How many more there were. */
  readonly unsavedMore: number
}

/** A record is written with every piece of output: what it holds of paths is bounded, in bytes. */
const maxUnsavedBytes = 32 * 1024
const maxUnsavedPaths = 200
/** How many the job's log names in one line. */
const namedInLog = 10

/** The paths that fit into a record. What a sandbox says is text for people, so it holds no control characters. */
export function boundedUnsaved(report: Pick<SaveReport, 'unsaved' | 'unsavedMore'>, mask: (text: string) => string): Unsaved {
  const unsaved: UnsavedPath[] = []
  let bytes = 0
  for (const { path, reason } of report.unsaved) {
    const entry = { path: mask(escapedLine(path)), reason: mask(escapedLine(reason)) }
    bytes += Buffer.byteLength(entry.path) + Buffer.byteLength(entry.reason)
    if (bytes > maxUnsavedBytes || unsaved.length >= maxUnsavedPaths) break
    unsaved.push(entry)
  }
  return { unsaved, unsavedMore: report.unsavedMore + report.unsaved.length - unsaved.length }
}

/** The line for the job's log; null when there is nothing that was not said before. */
export function unsavedLine(before: Unsaved, now: Unsaved): string | null {
  const known = new Set(before.unsaved.map(({ path, reason }) => `${path}\0${reason}`))
  const news = now.unsaved.filter(({ path, reason }) => !known.has(`${path}\0${reason}`))
  if (news.length === 0 && now.unsavedMore <= before.unsavedMore) return null
  const named = news.slice(0, namedInLog).map(({ path, reason }) => `"${path}" (${reason})`)
  const more = news.length - named.length + Math.max(0, now.unsavedMore - before.unsavedMore)
  return `not saved as it is now: ${[...named, ...(more === 0 ? [] : [`${more} more`])].join(', ')}; all else is`
}

/** Says in the job's log what a save has to tell, each thing once. @returns what the record is to hold. */
export async function tellReport(ctx: RunContext, report: Pick<SaveReport, 'unsaved' | 'unsavedMore' | 'notes'>): Promise<Unsaved> {
  const now = boundedUnsaved(report, (text) => ctx.secrets.patterns.mask(text))
  const line = unsavedLine(ctx.record, now)
  if (line !== null) await ctx.say(line)
  for (const note of report.notes) await ctx.sayOnce(escapedLine(note))
  return now
}
