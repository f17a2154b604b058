/**
 * What jobs, providers and hosts say, made harmless to whoever reads it: no sequence that moves a cursor, sets a title, fills a clipboard
 * or turns text around is left, and no line end where one would begin a line that looks like ours. Pure functions, and linear ones: a text
 * that is made to keep them busy is read once like any other.
 */

// Control characters (C0, delete, C1); marks that change the direction of text; separators of lines and paragraphs; what is not seen
// (soft hyphens, fillers, tags, annotations), but for the joiners and variation selectors that many scripts and pictures need.
const unseen = '\\u00ad\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e007f}'
const harm = `\\p{Cs}\\p{Zl}\\p{Zp}\\p{Bidi_Control}${unseen}`
const harmful = new RegExp(`(?![\\t\\n])[\\p{Cc}${harm}]`, 'gu')
const harmfulOrLineEnd = new RegExp(`[\\p{Cc}${harm}]`, 'gu')

// A sequence's own characters never begin another one, so that each is read once. An unfinished one is left, and loses its first character below.
const strings = /(?:\u001b[PX\]^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u0018\u001a\u001b\u0090\u0098\u009b-\u009f\n]*(?:\u0007|\u001b\\|\u009c)/g
const sequences = /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|\u001b[ -/]+[0-~]|\u001b[0-OQ-WYZ\\`-~]/g

/** The longest text that stands within a line, in characters. */
const longestPart = 4_000

/** A character's picture: `␛` for an escape; `�` for those that have none. */
function picture(character: string): string {
  const code = character.charCodeAt(0)
  if (code < 0x20) return String.fromCharCode(0x2400 + code)
  return code === 0x7f ? '\u2421' : '\ufffd'
}

function withoutSequences(text: string): string {
  return text.replace(strings, '').replace(sequences, '')
}

/** Text of several lines. Whole sequences (colours) are left out, and every control character that remains becomes its picture. */
export function harmlessText(text: string): string {
  return withPictures(withoutSequences(text))
}

/** As `harmlessText`, but what is left out there is shown: every control character but tabs and line ends as its picture. */
export function withPictures(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(harmful, picture)
}

/** Text that stands within a line: as `harmlessText`, line ends and tabs become pictures too, and a very long one is cut. */
export function harmlessLine(text: string): string {
  const cut = text.length > longestPart ? `${text.slice(0, longestPart)}… (${text.length - longestPart} more characters)` : text
  return withoutSequences(cut).replace(harmfulOrLineEnd, picture)
}

/** The beginning of a text. The mark tells whoever masks secrets that one may have been cut there. */
export function cutText(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text
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

/** JSON that holds the same, with everything harmful as `\u…`: JSON itself does so with a part of the control characters alone. */
export function harmlessJson(json: string): string {
  return json.replace(harmful, (character) => [...Array(character.length).keys()].map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''))
}

/** Text for one line of a log or a record, where nothing may get lost: what is harmful is escaped as in a string of C, such as `\x1b`. */
export function escapedLine(text: string): string {
  return text.replace(harmfulOrLineEnd, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code === 0x0a) return '\\n'
    if (code === 0x09) return '\\t'
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}
