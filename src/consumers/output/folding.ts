/**
 * Text without what wraps, indents or colours it: line ends with the blanks around them, also as JSON and languages write them (\n, \r\n), and terminals'
 * control sequences. A secret that a tool has wrapped is in one piece there.
 */
export interface Folded {
  readonly bytes: Buffer
  /** Where in the original the byte at this place of the folded text stands; `length` gives the end. */
  at(place: number): number
}

const [newline, carriageReturn, space, tab, escape, bracket, backslash, letterN, letterR] = [0x0a, 0x0d, 0x20, 0x09, 0x1b, 0x5b, 0x5c, 0x6e, 0x72]
const isBlank = (byte: number | undefined) => byte === space || byte === tab || byte === carriageReturn

/** @param open whether more may follow: then what may be the beginning of such a thing at its end is left out too. */
export function fold(original: Buffer, open: boolean): Folded {
  const bytes = Buffer.allocUnsafe(original.length)
  // Each run of bytes that follow one another in both: where it starts in the original, and its place in the folded text.
  const starts: number[] = []
  const places: number[] = []
  let length = 0
  eachRun(original, open, (from, to) => {
    starts.push(from)
    places.push(length)
    original.copy(bytes, length, from, to)
    length += to - from
    return false
  })
  const at = (place: number) => {
    // The last run that begins at or before the place.
    let [low, high] = [0, places.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((places[middle] ?? 0) <= place) low = middle
      else high = middle - 1
    }
    return (starts[low] ?? 0) + place - (places[low] ?? 0)
  }
  return { bytes: bytes.subarray(0, length), at }
}

/**
 * Calls `visit` with each run of bytes that the folded text has in one piece, in their order, until it returns true.
 * @returns whether it did.
 */
export function eachRun(original: Buffer, open: boolean, visit: (from: number, to: number) => boolean): boolean {
  const end = original.length - (open ? openEnd(original) : 0)
  const next = (byte: number, from: number) => {
    const at = original.indexOf(byte, from)
    return at === -1 || at >= end ? end : at
  }
  let [line, sequence, written] = [next(newline, 0), next(escape, 0), next(backslash, 0)]
  let from = 0
  let atLineStart = false
  while (from < end) {
    if (atLineStart) while (from < end && isBlank(original[from])) from++
    const stop = Math.min(line, sequence, written)
    let [to, after] = [stop, stop]
    if (stop === end) after = end
    else if (stop === line) after = stop + 1
    else if (stop === sequence) after = sequenceEnd(original, stop, open)
    else after = writtenLineEnd(original, stop, end)
    const endsLine = stop < end && after > stop && stop !== sequence
    if (endsLine) while (to > from && isBlank(original[to - 1])) to--
    if (after > stop || stop === end) {
      if (to > from) {
        if (visit(from, to)) return true
        atLineStart = false
      }
      from = after
      if (endsLine) atLineStart = true
    }
    const further = Math.max(after, stop + 1)
    if (line < further && line < end) line = next(newline, further)
    if (sequence < further && sequence < end) sequence = next(escape, further)
    if (written < further && written < end) written = next(backslash, further)
    if (stop === end) break
  }
  return false
}

/** Texts within texts within texts double them: 1, 2, 4, 8. */
const mostBackslashes = 8

/** The end of a line end that is written as a letter behind backslashes; its own place when it is none. */
function writtenLineEnd(bytes: Buffer, at: number, end: number): number {
  let letter = afterBackslashes(bytes, at)
  if (bytes[letter] === letterR && bytes[letter + 1] === backslash) letter = afterBackslashes(bytes, letter + 1)
  return letter < end && bytes[letter] === letterN ? letter + 1 : at
}

function afterBackslashes(bytes: Buffer, from: number): number {
  let to = from
  while (to < from + mostBackslashes && bytes[to] === backslash) to++
  return to
}

/** The end of the control sequence that begins with this escape; the escape's own place when it begins none. */
function sequenceEnd(bytes: Buffer, at: number, open: boolean): number {
  if (at + 1 === bytes.length) return open ? bytes.length : at
  if (bytes[at + 1] !== bracket) return at
  let end = at + 2
  while (end < bytes.length && end < at + 40 && (bytes[end] ?? 0) >= 0x20 && (bytes[end] ?? 0) < 0x40) end++
  if (end === bytes.length) return open ? end : at
  const last = bytes[end] ?? 0
  return last >= 0x40 && last < 0x7f ? end + 1 : at
}

/** How many bytes at the end are blanks and backslashes, with the letter between two of these: a line end may come of them. */
function openEnd(bytes: Buffer): number {
  let from = bytes.length
  for (;;) {
    const byte = bytes[from - 1]
    if (isBlank(byte) || byte === backslash || (byte === letterR && bytes[from - 2] === backslash)) from--
    else return bytes.length - from
  }
}
