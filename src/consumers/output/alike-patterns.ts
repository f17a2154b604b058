/**
 * Patterns that begin alike, in the order of their bytes: those with which a text begins stand right before it there, the longest last, or are the
 * beginnings of what stands there. So a few are compared, however many there are.
 */
export class AlikePatterns {
  #patterns: Buffer[]
  /** For each, the place of the longest that it begins with; undefined while they are not in order. */
  #within: Int32Array | undefined

  constructor(pattern: Buffer) {
    this.#patterns = [pattern]
  }

  add(pattern: Buffer): void {
    this.#patterns.push(pattern)
    this.#within = undefined
  }

  remove(pattern: Buffer): void {
    this.#patterns = this.#patterns.filter((each) => each !== pattern)
    this.#within = undefined
  }

  /** How long the longest is that stands at a place of a text, 0 for none; and whether another might, did the text go on. */
  longestAt(text: Buffer, from: number): { readonly length: number; readonly mayGoOn: boolean } {
    const within = (this.#within ??= this.#inOrder())
    const patterns = this.#patterns
    let [low, high] = [0, patterns.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#compare(text, from, middle) >= 0) low = middle + 1
      else high = middle
    }
    const left = text.length - from
    const next = patterns[low]
    const mayGoOn = next !== undefined && next.length > left && text.compare(next, 0, left, from, text.length) === 0
    let at = low - 1
    if (at < 0 || this.#compare(text, from, at) === 0) return { length: patterns[at]?.length ?? 0, mayGoOn }
    at = within[at] ?? -1
    if (at === -1) return { length: 0, mayGoOn }
    const common = commonLength(text, from, patterns[low - 1] ?? text)
    while (at !== -1 && (patterns[at]?.length ?? 0) > common) at = within[at] ?? -1
    return { length: patterns[at]?.length ?? 0, mayGoOn }
  }

  /** 0 when the text goes on with the pattern. */
  #compare(text: Buffer, from: number, at: number): number {
    const pattern = this.#patterns[at] ?? text
    return text.compare(pattern, 0, pattern.length, from, Math.min(text.length, from + pattern.length))
  }

  #inOrder(): Int32Array {
    this.#patterns.sort((one, other) => Buffer.compare(one, other))
    const within = new Int32Array(this.#patterns.length)
    const open: number[] = []
    for (const [at, pattern] of this.#patterns.entries()) {
      for (;;) {
        const before = this.#patterns[open.at(-1) ?? -1]
        if (before === undefined || (pattern.length >= before.length && pattern.compare(before, 0, before.length, 0, before.length) === 0)) break
        open.pop()
      }
      within[at] = open.at(-1) ?? -1
      open.push(at)
    }
    return within
  }
}

/** How many bytes a text has in common with a pattern, from a place on. */
function commonLength(text: Buffer, from: number, pattern: Buffer): number {
  let [low, high] = [0, Math.min(pattern.length, text.length - from)]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (text.compare(pattern, low, middle, from + low, from + middle) === 0) low = middle
    else high = middle - 1
  }
  return low
}
