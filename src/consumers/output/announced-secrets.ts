/**
 * Secrets that a job learns while it runs, such as a token that a step has asked for: a line of its output that is
 *
 *     ::switchyard-mask::VALUE
 *
 * has VALUE masked from there on, and in that line. A line end in it is written as %0A, a "%" then as %25.
 */
const marker = Buffer.from('::switchyard-mask::')
const newline = 0x0a

/** A longer line is shown as any other: nothing may hold output back for ever. */
const longestLine = 16 * 1024

/**
 * Calls `found` for each announced value in complete lines.
 * @param before the byte before these, when there is one.
 * @param open whether the last line may go on.
 * @returns where a last line begins that may yet be an announcement; the length when none does.
 */
export function announcements(bytes: Buffer, before: number | undefined, open: boolean, found: (value: string) => void): number {
  const begins = (at: number) => (at === 0 ? before === undefined || before === newline : bytes[at - 1] === newline)
  for (let at = bytes.indexOf(marker); at !== -1; at = bytes.indexOf(marker, at + 1)) {
    if (!begins(at)) continue
    const end = bytes.indexOf(newline, at)
    if (end === -1 && open) return bytes.length - at > longestLine ? bytes.length : at
    found(decoded(bytes.toString('utf8', at + marker.length, end === -1 ? undefined : end).replace(/\r$/, '')))
  }
  if (!open) return bytes.length
  const last = bytes.lastIndexOf(newline) + 1
  const length = bytes.length - last
  return length > 0 && length < marker.length && begins(last) && bytes.compare(marker, 0, length, last) === 0 ? last : bytes.length
}

function decoded(value: string): string {
  return value.replace(/%0D/g, '\r').replace(/%0A/g, '\n').replace(/%25/g, '%')
}
