import { counted } from '../job/counted.js'
import { harmlessLine, withPictures } from '../job/harmless-text.js'

/**
 * What the board shows of a job's spec and result. A spec is shown as written but for the values of environment
 * variables, which users put keys into although `secrets` is there for that; and no more than a browser can take:
 * jobs of several MB bring the board's page down. Control characters and marks that turn text around are shown as pictures.
 */

/** The longest text that is shown whole, in characters. */
const longestText = 4_000
/** How many entries of a list or an object are shown. */
const mostEntries = 200
const deepest = 12
/** How deep a value may be that is saved. */
const deepestSaved = 100

const mask = '[hidden]'

/** For display only: the value with every environment value masked, and long texts and lists cut. */
export function shownValue(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return shownText(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth >= deepest) return '[deeper than is shown]'
  if (Array.isArray(value)) {
    const shown = value.slice(0, mostEntries).map((item) => shownValue(item, depth + 1))
    return value.length > mostEntries ? [...shown, `[${value.length - mostEntries} more]`] : shown
  }
  const entries = Object.entries(value)
  const shown = entries.slice(0, mostEntries).map(([key, inner]) => [harmlessLine(key), key === 'env' ? maskedValues(inner) : shownValue(inner, depth + 1)] as const)
  if (entries.length > mostEntries) shown.push(['…', `[${entries.length - mostEntries} more]`])
  return Object.fromEntries(shown)
}

/** Whether a value holds what `shownValue` puts in the place of something else. */
export function holdsCut(value: unknown, depth = 0): boolean {
  if (typeof value === 'string') return value === mask || cutText.test(value)
  if (typeof value !== 'object' || value === null) return false
  // Nothing that is shown is as deep.
  if (depth > deepestSaved) return true
  return Object.entries(value).some(([key, inner]) => (key === '…' && typeof inner === 'string') || holdsCut(key) || holdsCut(inner, depth + 1))
}

const cutText = /^\[(\d+ more|deeper than is shown)\]$|\n\[… \d+ characters …\]\n|[\u2400-\u2421\ufffd]/

/** A text as a page may show it. */
export function shownText(text: string): string {
  if (text.length <= longestText) return withPictures(text)
  return withPictures(`${text.slice(0, longestText / 2)}\n[… ${counted(text.length - longestText, 'character')} …]\n${text.slice(-longestText / 2)}`)
}

function maskedValues(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return mask
  return Object.fromEntries(Object.keys(value).slice(0, mostEntries).map((key) => [harmlessLine(key), mask]))
}
