/** The name among `known` that was probably meant; undefined when none is near. */
export function nearestName(wanted: string, known: Iterable<string>): string | undefined {
  const text = wanted.toLowerCase().slice(0, longestCompared)
  const most = Math.max(1, Math.floor(text.length / 3))
  let best: { readonly name: string; readonly distance: number } | undefined
  for (const name of known) {
    const other = name.toLowerCase().slice(0, longestCompared)
    const begins = text.length > 2 && (other.startsWith(text) || (other.length > 2 && text.startsWith(other)))
    const distance = Math.min(editDistance(text, other), begins ? 1 : Infinity)
    if (distance <= most && distance < (best?.distance ?? Infinity)) best = { name, distance }
  }
  return best?.name
}

/** ` (did you mean "e2b"?)`, to stand within a sentence; empty when no name is near. */
export function didYouMean(wanted: string, known: Iterable<string>): string {
  const name = nearestName(wanted, known)
  return name === undefined ? '' : ` (did you mean "${name}"?)`
}

const longestCompared = 64

/** How many letters are to be put in, taken out, changed or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, index) => index)]
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, (before[j - 2] ?? 0) + 1)
      next.push(least)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
