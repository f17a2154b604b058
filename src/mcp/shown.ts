import { counted } from '../job/counted.js'
import { harmlessText } from '../job/harmless-text.js'

/**
 * Answers as an agent gets them: nothing that a terminal would obey, since hosts print them, and no more than an agent reads. Pure.
 */

const longestText = 16_000
const longestList = 100
const mostOmissions = 50

export interface Shown {
  readonly value: Record<string, unknown>
  /** What was left out, a clause each. */
  readonly omitted: readonly string[]
}

/** @param longest of a text, in characters. */
export function shown(answer: object, longest = longestText): Shown {
  const omitted: string[] = []
  const leave = (what: string) => {
    if (omitted.length < mostOmissions) omitted.push(what)
  }
  const made = (part: unknown, path: string): unknown => {
    if (typeof part === 'string') {
      const text = harmlessText(part)
      if (text.length <= longest) return text
      leave(`${path}: ${counted(text.length - longest, 'character')}`)
      return cutAt(text, longest)
    }
    if (Array.isArray(part)) {
      if (part.length > longestList) leave(`${path}: ${part.length - longestList} more`)
      return part.slice(0, longestList).map((inner, index) => made(inner, `${path}[${index}]`))
    }
    if (typeof part !== 'object' || part === null) return part
    return Object.fromEntries(Object.entries(part).map(([key, inner]) => [harmlessText(key), made(inner, path === '' ? key : `${path}.${key}`)]))
  }
  const value = made(answer, '') as Record<string, unknown>
  return { value, omitted: omitted.map(harmlessText) }
}

/** At most so many characters, and no half of one. */
export function cutAt(text: string, length: number): string {
  const cut = text.slice(0, length)
  return /[\uD800-\uDBFF]$/.test(cut) ? cut.slice(0, -1) : cut
}
