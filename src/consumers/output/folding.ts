/**
 * Text without what wraps, indents or colours it: line ends with the blanks around them, and terminals' control sequences. A secret that a
 * tool has wrapped is in one piece there.
 */
export interface Folded {
  readonly bytes: Buffer
  /** Where in the original the byte at this place of the folded text stands; `length` gives the end. */
  at(place: number): number
}

const [newline, carriageReturn, space, tab, escape, bracket] = [0x0a, 0x0d, 0x20, 0x09, 0x1b, 0x5b]
const isBlank = (byte: number | undefined) => byte === space || byte === tab || byte === carriageReturn

/** @param open whether more may follow: then blanks at its end and a sequence that is not complete are left out too. */
export function fold(original: Buffer, open: boolean): Folded {
  let [line, sequence] = [original.indexOf(newline), original.indexOf(escape)]
  const tail = open ? trailingBlanks(original) : 0
  if (line === -1 && sequence === -1) {
    const end = original.length - tail
    return { bytes: original.subarray(0, end), at: (place) => place }
  }
  const bytes = Buffer.allocUnsafe(original.length)
  const starts: number[] = []
  const places: number[] = []
  let [length, from] = [0, 0]
  const keep = (to: number) => {
    if (to <= from) return
    starts.push(from)
    places.push(length)
    original.copy(bytes, length, from, to)
    length += to - from
  }
  while (line !== -1 || sequence !== -1) {
    if (sequence !== -1 && (line === -1 || sequence < line)) {
      const end = sequenceEnd(original, sequence, open)
      if (end > sequence) {
        keep(sequence)
        from = Math.max(from, end)
      }
      sequence = original.indexOf(escape, sequence + 1)
    } else {
      let before = line
      while (before > from && isBlank(original[before - 1])) before--
      keep(before)
      let after = line + 1
      while (isBlank(original[after]) || original[after] === newline) after++
      from = Math.max(from, after)
      line = original.indexOf(newline, Math.max(after, line + 1))
    }
  }
  keep(original.length - tail)
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

function trailingBlanks(bytes: Buffer): number {
  let count = 0
  while (count < bytes.length && isBlank(bytes[bytes.length - 1 - count])) count++
  return count
}
