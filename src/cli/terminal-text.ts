import { stripVTControlCharacters } from 'node:util'

/**
 * What jobs, providers and hosts say, made harmless to whoever reads it: no sequence that moves a cursor, sets a title, fills a clipboard
 * or turns text around is left, and no line end where one would begin a line that looks like ours. Pure functions.
 */

// Control characters but tab and line end, the marks that change the direction of text, and the separators of lines and paragraphs.
const harmful = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]/g
const harmfulOrLineEnd = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]/g

/** A character's picture: `␛` for an escape; `�` for those that have none. */
function picture(character: string): string {
  const code = character.charCodeAt(0)
  if (code < 0x20) return String.fromCharCode(0x2400 + code)
  return code === 0x7f ? '\u2421' : '\ufffd'
}

/** Text of several lines. Whole sequences (colours) are left out, and every control character that remains becomes its picture. */
export function harmlessText(text: string): string {
  return stripVTControlCharacters(text).replace(/\r\n/g, '\n').replace(harmful, picture)
}

/** Text that stands within a line: as `harmlessText`, and line ends become pictures too. */
export function harmlessLine(text: string): string {
  return stripVTControlCharacters(text).replace(harmfulOrLineEnd, picture)
}

/** Every text within a value, for reports that are put together from its parts. */
export function harmlessValue<Value>(value: Value): Value {
  const made = (part: unknown): unknown => {
    if (typeof part === 'string') return harmlessLine(part)
    if (Array.isArray(part)) return part.map(made)
    if (typeof part !== 'object' || part === null) return part
    return Object.fromEntries(Object.entries(part).map(([key, inner]) => [harmlessLine(key), made(inner)]))
  }
  return made(value) as Value
}
