import { AlikePatterns } from './alike-patterns.js'
import { eachRun, fold } from './folding.js'
import { minFormLength, secretForms } from './secret-forms.js'

/**
 * The byte patterns to hide: every value in all of its forms (secret-forms.ts), searched in folded text (folding.ts).
 *
 * However many there are, text is read once (Wu and Manber, 1994): a table over blocks of three bytes says how far on the next pattern may begin,
 * and only where it says "here" are the patterns looked for that begin with the same eight bytes: by bisection, since a job may announce hundreds that
 * go on alike. A value of fewer bytes than that is hidden as it is, and only where it is a word by itself.
 */
export class SecretPatterns {
  readonly #forms = new Map<string, { readonly pattern: Buffer; expiry: number }>()
  /** Patterns by a number made of their first bytes. */
  readonly #byBeginning = new Map<number, AlikePatterns>()
  #skips = new Uint8Array(0)
  /** The first 1 to 7 bytes of every pattern: what may stand at the end of a piece. */
  readonly #beginnings = new Set<string>()
  /** The first eight bytes of every pattern, by which the tables have it. */
  readonly #known = new Set<string>()
  readonly #words = new Map<string, Buffer>()
  #longestForm = 0
  /** Forms of the last values that pass, oldest first; `#passed` counts them all. */
  readonly #passing: (readonly string[])[] = []
  #passed = 0
  readonly #announced = new Set<string>()
  #announcedBytes = 0
  /** What is to be added before anything is searched: finding a value's forms costs more than a job that prints nothing does otherwise. */
  #due: (() => void)[] = []

  /** How many bytes of a stream a pattern may take at most, with line ends and blanks within it. */
  get longest(): number {
    this.#addDue()
    return this.#longestForm === 0 ? this.#longestWord() : 2 * this.#longestForm + 64
  }

  /** Adds a value for good. */
  add(value: string): void {
    this.#later(() => void this.#insert(value, Infinity))
  }

  /** Adds a token that is good for minutes, as they are minted while a job runs: it is forgotten after a hundred later ones. */
  addPassing(value: string): void {
    this.#later(() => this.#insertPassing(value))
  }

  #later(step: () => void): void {
    this.#due.push(step)
    if (this.#due.length > mostPassing) this.#addDue()
  }

  #addDue(): void {
    for (const step of this.#due.splice(0)) step()
  }

  #insertPassing(value: string): void {
    this.#passing.push(this.#insert(value, ++this.#passed))
    if (this.#passing.length <= mostPassing) return
    for (const key of this.#passing.shift() ?? []) {
      const form = this.#forms.get(key)
      // Added again since, or for good.
      if (form === undefined || form.expiry > this.#passed - mostPassing) continue
      this.#forms.delete(key)
      this.#byBeginning.get(beginningAt(form.pattern, 0))?.remove(form.pattern)
    }
  }

  /** Adds a value that the job itself has named; bounded, since it may name any number. What is named again, or is too long, leaves the others their room. */
  announce(value: string): void {
    const bytes = this.#announcedBytes + Buffer.byteLength(value)
    if (this.#announced.has(value) || this.#announced.size >= mostAnnounced || bytes > mostAnnouncedBytes) return
    this.#announced.add(value)
    this.#announcedBytes = bytes
    this.add(value)
  }

  /** @returns the keys of its forms. */
  #insert(value: string, expiry: number): string[] {
    if (isShortSecret(value)) {
      if (value.trim() !== '') this.#words.set(value.trim(), Buffer.from(value.trim()))
      return []
    }
    const keys: string[] = []
    for (const text of secretForms(value)) {
      for (const pattern of foldedForms(text)) {
        const key = pattern.toString('latin1')
        keys.push(key)
        const form = this.#forms.get(key)
        if (form !== undefined) {
          form.expiry = Math.max(form.expiry, expiry)
          continue
        }
        this.#forms.set(key, { pattern, expiry })
        this.#index(pattern)
      }
    }
    return keys
  }

  /** Masks every value in a whole text, such as an error's message; also the beginning of one where the text ends, or `…` says that it was cut. */
  mask(text: string): string {
    const bytes = Buffer.from(text)
    let { masked } = this.search(bytes, false)
    for (const end of cutsOf(bytes)) {
      const from = Math.max(0, end - this.longest)
      const begun = from + this.search(bytes.subarray(from, end), true, bytes[from - 1]).openFrom
      if (end - begun >= leastCut) masked = (masked ?? Buffer.from(bytes)).fill(0x2a, begun, end)
    }
    return (masked ?? bytes).toString('utf8')
  }

  /**
   * @param open whether more bytes may follow.
   * @param before the byte before these, when there is one.
   * @returns the bytes with asterisks in place of every value, undefined when there is none; and where the first pattern begins that
   *   is not complete or, complete, reaches over such a place: from there on it is not known yet what must be masked.
   */
  search(bytes: Buffer, open: boolean, before?: number): { readonly masked: Buffer | undefined; readonly openFrom: number } {
    if (bytes.length === 0) return { masked: undefined, openFrom: 0 }
    this.#addDue()
    let masked: Buffer | undefined
    const found: (readonly [from: number, to: number])[] = []
    const hide = (from: number, to: number) => {
      masked ??= Buffer.from(bytes)
      masked.fill(0x2a, from, to)
    }
    let openFrom = bytes.length
    const endless = this.#forms.size === 0 ? undefined : this.#openWithout(bytes, open)
    if (this.#forms.size > 0 && endless !== undefined) openFrom = endless
    else if (this.#forms.size > 0) {
      const folded = fold(bytes, open)
      const scanned = this.#scan(folded.bytes, open)
      let hiddenTo = 0
      for (const [from, to] of scanned.found) {
        found.push([folded.at(from), folded.at(to - 1) + 1])
        // What repeats itself is found within itself: each byte is hidden once.
        const begin = Math.max(from, hiddenTo)
        if (begin >= to) continue
        const [first, last] = [folded.at(begin), folded.at(to - 1)]
        // Line ends within it stay, and so does what a terminal needs of them.
        if (last - first === to - 1 - begin) hide(first, last + 1)
        else for (let place = begin; place < to; place++) hide(folded.at(place), folded.at(place) + 1)
        hiddenTo = to
      }
      if (scanned.openFrom < folded.bytes.length) openFrom = folded.at(scanned.openFrom)
    }
    for (const word of this.#words.values()) openFrom = Math.min(openFrom, findWord(bytes, word, { open, before, hide }))
    // From the last to the first, so that what reaches over a place that another one has moved is found in one go.
    for (const [from, to] of found.toReversed()) if (from < openFrom && to > openFrom) openFrom = from
    return { masked, openFrom }
  }

  /**
   * What most text comes to: no pattern begins in it, as far as eight bytes tell; looked at where it lies, and not folded.
   * @returns where a pattern may begin whose first eight bytes are not all there; undefined when the text has to be looked at as a whole.
   */
  #openWithout(bytes: Buffer, open: boolean): number | undefined {
    // Where a run ends and the next begins: the last bytes of what was before, and the first of what follows it.
    const edge = Buffer.alloc(2 * tail)
    let kept = 0
    // Where these last bytes lie in one piece; they are in `edge` while they do not.
    let tailAt = -1
    const found = eachRun(bytes, open, (from, to) => {
      const isLong = to - from >= tail
      if (isLong && tailAt !== -1) {
        if (this.#crosses(bytes, tailAt, from)) return true
      } else {
        if (tailAt !== -1) kept = bytes.copy(edge, 0, tailAt, tailAt + tail)
        const held = kept + bytes.copy(edge, kept, from, Math.min(to, from + tail))
        if (kept > 0 && this.#begins(edge, 0, held)) return true
        edge.copyWithin(0, Math.max(0, held - tail), held)
        kept = Math.min(tail, held)
      }
      tailAt = isLong ? to - tail : -1
      return this.#begins(bytes, from, to)
    })
    if (found) return undefined
    if (!open) return bytes.length
    const from = Math.max(0, bytes.length - lastBytes)
    const last = fold(bytes.subarray(from), true)
    // Where it was cut out, it may be folded in another way than within the whole.
    if (from > 0 && last.bytes.length < lastBytes / 4) return undefined
    const { length } = last.bytes
    for (let at = Math.max(0, length - window + 1); at < length; at++) {
      if (this.#beginnings.has(last.bytes.toString('latin1', at))) return from + last.at(at)
    }
    return bytes.length
  }

  /** Whether one may begin in the seven bytes of one place and go on in those of another. */
  #crosses(bytes: Buffer, before: number, after: number): boolean {
    for (let end = tail; end < 2 * tail; ) {
      const skip = this.#skips[blockOf(byteOver(bytes, before, after, end - 2), byteOver(bytes, before, after, end - 1), byteOver(bytes, before, after, end))] ?? 0
      if (skip > 0) end += skip
      else if (this.#byBeginning.has(beginningOf(wordOver(bytes, before, after, end - tail), wordOver(bytes, before, after, end - tail + 4)))) return true
      else end++
    }
    return false
  }

  /** Whether a pattern may begin there, by its first eight bytes. */
  #begins(text: Buffer, from: number, to: number): boolean {
    const skips = this.#skips
    for (let end = from + window - 1; end < to; ) {
      const skip = skips[blockAt(text, end - block + 1)] ?? 0
      if (skip > 0) end += skip
      else if (this.#byBeginning.has(beginningAt(text, end - window + 1))) return true
      else end++
    }
    return false
  }

  #scan(text: Buffer, open: boolean): { readonly found: readonly (readonly [number, number])[]; readonly openFrom: number } {
    const found: (readonly [number, number])[] = []
    const { length } = text
    let openFrom = length
    for (let end = window - 1; end < length; ) {
      const skip = this.#skips[blockAt(text, end - block + 1)] ?? 0
      if (skip > 0) {
        end += skip
        continue
      }
      const from = end - window + 1
      const alike = this.#byBeginning.get(beginningAt(text, from))
      if (alike !== undefined) {
        const matched = alike.longestAt(text, from)
        if (matched.length > 0) found.push([from, from + matched.length])
        if (open && matched.mayGoOn) openFrom = Math.min(openFrom, from)
      }
      end++
    }
    if (open) {
      for (let from = Math.max(0, length - window + 1); from < openFrom; from++) {
        if (this.#beginnings.has(text.toString('latin1', from))) openFrom = from
      }
    }
    return { found, openFrom }
  }

  #index(pattern: Buffer): void {
    if (this.#skips.length === 0) this.#skips = new Uint8Array(1 << 16).fill(window - block + 1)
    const key = beginningAt(pattern, 0)
    const same = this.#byBeginning.get(key)
    if (same === undefined) this.#byBeginning.set(key, new AlikePatterns(pattern))
    else same.add(pattern)
    this.#longestForm = Math.max(this.#longestForm, pattern.length)
    // Most forms of a value begin alike. The number above is no proof of it: other bytes may have the same.
    const beginning = pattern.toString('latin1', 0, window)
    if (this.#known.has(beginning)) return
    this.#known.add(beginning)
    for (let from = 0; from + block <= window; from++) {
      const at = blockAt(pattern, from)
      this.#skips[at] = Math.min(this.#skips[at] ?? 0, window - block - from)
    }
    for (let length = 1; length < window; length++) this.#beginnings.add(beginning.slice(0, length))
  }

  #longestWord(): number {
    return Math.max(0, ...[...this.#words.values()].map(({ length }) => length))
  }
}

/** Whether a value is so short that it would be found in much that is no secret: it is hidden as a whole word only, and in no other form. */
export function isShortSecret(value: string): boolean {
  return value.trim().length < minFormLength
}

/** How many values that pass are known, and how many a job may announce, of how many bytes together: each has dozens of forms. */
const mostPassing = 100
const mostAnnounced = 200
const mostAnnouncedBytes = 32 * 1024

/** As many bytes of a value that was cut are masked: fewer may be anything, such as the beginning of a URL. */
const leastCut = 12

/** Of the end of a piece. */
const lastBytes = 256

/** How many bytes of every pattern the tables know, and of how many bytes a block is. */
const window = minFormLength
const block = 3
/** What of a window may stand before where it is cut in two. */
const tail = window - 1

/** A form as it stands in folded text; twice where a backslash before or an "n" behind it would make a line end of its own character. */
function foldedForms(text: string): Buffer[] {
  // Most have nothing that folds.
  const whole = /[\n\x1b\\]/.test(text) ? Buffer.from(fold(Buffer.from(text), false).bytes) : Buffer.from(text)
  const inner = whole.subarray(whole[0] === 0x6e ? 1 : 0, whole.at(-1) === 0x5c ? -1 : undefined)
  return [whole, ...(inner.length < whole.length ? [inner] : [])].filter(({ length }) => length >= window)
}

function blockAt(bytes: Buffer, at: number): number {
  return blockOf(bytes[at] ?? 0, bytes[at + 1] ?? 0, bytes[at + 2] ?? 0)
}

const blockOf = (first: number, second: number, third: number) => ((first << 11) ^ (second << 6) ^ third) & 0xffff

function beginningAt(bytes: Buffer, at: number): number {
  return beginningOf(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4))
}

/** Of the bytes at two places, as if the one went on as the other. */
function byteOver(bytes: Buffer, before: number, after: number, at: number): number {
  return bytes[at < tail ? before + at : after + at - tail] ?? 0
}

function wordOver(bytes: Buffer, before: number, after: number, at: number): number {
  let word = 0
  for (let place = 3; place >= 0; place--) word = (word << 8) | byteOver(bytes, before, after, at + place)
  return word
}

const beginningOf = (first: number, second: number) => (first ^ Math.imul(second, 0x9e3779b1)) >>> 0

const isWordByte = (byte: number | undefined) =>
  byte !== undefined && ((byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f || byte >= 0x80)

/** Where a text may have been cut, blanks left out: at its end, and before the last few marks that say so. */
function cutsOf(bytes: Buffer): number[] {
  const cuts = [bytes.length]
  for (let at = bytes.lastIndexOf(cutMark); at > 0 && cuts.length < 8; at = bytes.lastIndexOf(cutMark, at - 1)) cuts.push(at)
  return cuts.map((cut) => {
    let end = cut
    while (end > 0 && (bytes[end - 1] ?? 0) <= 0x20) end--
    return end
  })
}

const cutMark = Buffer.from('…')

interface WordSearch {
  readonly open: boolean
  readonly before: number | undefined
  readonly hide: (from: number, to: number) => void
}

/** @returns where the word begins that more bytes may complete or prolong; the length when there is none. */
function findWord(bytes: Buffer, word: Buffer, { open, before, hide }: WordSearch): number {
  const beginsAt = (at: number) => !isWordByte(at === 0 ? before : bytes[at - 1])
  for (let at = bytes.indexOf(word); at !== -1; at = bytes.indexOf(word, at + 1)) {
    const end = at + word.length
    if (!beginsAt(at) || isWordByte(bytes[end])) continue
    if (open && end === bytes.length) return at
    hide(at, end)
  }
  if (!open) return bytes.length
  for (let length = Math.min(word.length - 1, bytes.length); length > 0; length--) {
    const at = bytes.length - length
    if (beginsAt(at) && bytes.compare(word, 0, length, at) === 0) return at
  }
  return bytes.length
}
