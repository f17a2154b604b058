import { fold } from './folding.js'
import { minFormLength, secretForms } from './secret-forms.js'

/**
 * The byte patterns to hide: every value in all of its forms (secret-forms.ts), searched in folded text (folding.ts).
 *
 * However many there are, text is read once (Wu and Manber, 1994): a table over blocks of three bytes says how far on the next pattern may begin,
 * and only where it says "here" are the patterns looked at that begin with the same eight bytes. A value of fewer bytes than that is
 * hidden as it is, and only where it is a word by itself.
 */
export class SecretPatterns {
  readonly #forms = new Map<string, { readonly pattern: Buffer; expiry: number }>()
  /** Patterns by a number made of their first bytes. */
  readonly #byBeginning = new Map<number, Buffer[]>()
  #skips = new Uint8Array(0)
  /** The first 1 to 7 bytes of every pattern: what may stand at the end of a piece. */
  readonly #beginnings = new Set<string>()
  readonly #words = new Map<string, Buffer>()
  #longestForm = 0
  /** Forms of the last values that pass, oldest first; `#passed` counts them all. */
  readonly #passing: (readonly string[])[] = []
  #passed = 0
  #announced = 0
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
      const beginning = beginningAt(form.pattern, 0)
      this.#byBeginning.set(beginning, (this.#byBeginning.get(beginning) ?? []).filter((each) => each !== form.pattern))
    }
  }

  /** Adds a value that the job itself has named; bounded, since it may name any number. */
  announce(value: string): void {
    if (++this.#announced <= mostAnnounced) this.add(value)
  }

  /** @returns the keys of its forms. */
  #insert(value: string, expiry: number): string[] {
    if (isShortSecret(value)) {
      if (value.trim() !== '') this.#words.set(value.trim(), Buffer.from(value.trim()))
      return []
    }
    const keys: string[] = []
    for (const text of secretForms(value)) {
      const pattern = Buffer.from(fold(Buffer.from(text), false).bytes)
      if (pattern.length < window) continue
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
    return keys
  }

  /** Masks every value in a whole text, such as an error's message. */
  mask(text: string): string {
    const bytes = Buffer.from(text)
    return (this.search(bytes, false).masked ?? bytes).toString('utf8')
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
    if (this.#forms.size > 0) {
      const folded = fold(bytes, open)
      const scanned = this.#scan(folded.bytes, open)
      for (const [from, to] of scanned.found) {
        const [first, last] = [folded.at(from), folded.at(to - 1)]
        found.push([first, last + 1])
        // Line ends within it stay, and so does what a terminal needs of them.
        if (last - first === to - 1 - from) hide(first, last + 1)
        else for (let place = from; place < to; place++) hide(folded.at(place), folded.at(place) + 1)
      }
      if (scanned.openFrom < folded.bytes.length) openFrom = folded.at(scanned.openFrom)
    }
    for (const word of this.#words.values()) openFrom = Math.min(openFrom, findWord(bytes, word, { open, before, hide }))
    for (let moved = true; moved; ) {
      moved = false
      for (const [from, to] of found) {
        if (from < openFrom && to > openFrom) {
          openFrom = from
          moved = true
        }
      }
    }
    return { masked, openFrom }
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
      for (const pattern of this.#byBeginning.get(beginningAt(text, from)) ?? []) {
        const to = Math.min(length, from + pattern.length)
        if (text.compare(pattern, 0, to - from, from, to) !== 0) continue
        if (to - from === pattern.length) found.push([from, to])
        else if (open) openFrom = Math.min(openFrom, from)
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
    if (same === undefined) this.#byBeginning.set(key, [pattern])
    else same.push(pattern)
    for (let from = 0; from + block <= window; from++) {
      const at = blockAt(pattern, from)
      this.#skips[at] = Math.min(this.#skips[at] ?? 0, window - block - from)
    }
    for (let length = 1; length < window; length++) this.#beginnings.add(pattern.toString('latin1', 0, length))
    this.#longestForm = Math.max(this.#longestForm, pattern.length)
  }

  #longestWord(): number {
    return Math.max(0, ...[...this.#words.values()].map(({ length }) => length))
  }
}

/** Whether a value is so short that it would be found in much that is no secret: it is hidden as a whole word only, and in no other form. */
export function isShortSecret(value: string): boolean {
  return value.trim().length < minFormLength
}

/** How many values that pass are known, and how many a job may announce. */
const mostPassing = 100
const mostAnnounced = 200

/** How many bytes of every pattern the tables know, and of how many bytes a block is. */
const window = minFormLength
const block = 3

function blockAt(bytes: Buffer, at: number): number {
  return (((bytes[at] ?? 0) << 11) ^ ((bytes[at + 1] ?? 0) << 6) ^ (bytes[at + 2] ?? 0)) & 0xffff
}

function beginningAt(bytes: Buffer, at: number): number {
  return (bytes.readUInt32LE(at) ^ Math.imul(bytes.readUInt32LE(at + 4), 0x9e3779b1)) >>> 0
}

const isWordByte = (byte: number | undefined) =>
  byte !== undefined && ((byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f || byte >= 0x80)

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
