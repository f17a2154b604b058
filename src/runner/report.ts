import { cutText } from '../job/harmless-text.js'
import { linesOf, numberField, type Answer } from './answer.js'
import type { KeptTip, SaveReport, UnsavedPath } from './runner.js'

/** What a save has to tell, as the script answers it: every list is bounded here once more, because a sandbox's word is nothing to rely on. */
const mostUnsaved = 200
const mostNotes = 50
const mostKept = 50

export function saveReport(answer: Answer): SaveReport {
  const unsaved = linesOf(answer, 'unsaved').map(unsavedPath)
  return {
    unsaved: unsaved.slice(0, mostUnsaved),
    unsavedMore: numberField(answer, 'unsaved-more', 1e9) + Math.max(0, unsaved.length - mostUnsaved),
    notes: notesOf(answer),
    kept: linesOf(answer, 'kept').flatMap(keptTip).slice(0, mostKept),
  }
}

export function notesOf(answer: Answer): string[] {
  return linesOf(answer, 'notes').slice(0, mostNotes).map(shortened)
}

function unsavedPath(line: string): UnsavedPath {
  const [path = '', reason = ''] = line.split('\t')
  return { path: unquotePath(path.slice(0, 8_192)), reason: shortened(reason) }
}

function keptTip(line: string): KeptTip[] {
  const match = /^([0-9a-f]{40}) (.+)$/.exec(line)
  return match?.[1] === undefined || match[2] === undefined ? [] : [{ sha: match[1], ref: match[2].slice(0, 1_000) }]
}

const shortened = (text: string): string => cutText(text.trimEnd(), 1_000)

const escapes: Readonly<Record<string, string>> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

/** A path as git prints it, in quotes where it holds anything odd. What is no UTF-8 is shown with a replacement character. */
export function unquotePath(quoted: string): string {
  if (!quoted.startsWith('"') || !quoted.endsWith('"') || quoted.length < 2) return quoted
  const bytes: number[] = []
  const inner = Buffer.from(quoted.slice(1, -1), 'utf8').toString('latin1')
  for (const [, octal, escaped, plain] of inner.matchAll(/\\([0-7]{3})|\\(.)|([^\\])/gs)) {
    if (octal !== undefined) bytes.push(Number.parseInt(octal, 8) & 0xff)
    else bytes.push((escaped === undefined ? (plain ?? '') : (escapes[escaped] ?? escaped)).charCodeAt(0))
  }
  return Buffer.from(bytes).toString('utf8')
}
