/**
 * Masks secret values in a stream of bytes, also where a value is split over pieces. A mask is as long as what it hides, so
 * that offsets into the stream stay true.
 */
import { announcements } from './announced-secrets.js'
import type { SecretPatterns } from './secret-patterns.js'

/** How many bytes at the end of `bytes` are an unfinished UTF-8 character: 0 to 3. */
export function openCharacter(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if ((byte & 0xc0) === 0x80) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
    return length > back ? back : 0
  }
  return 0
}

const asterisk = 0x2a
const newline = 0x0a
/** How many characters of what may be a secret's beginning are shown when nothing follows: many lines end with the letter that every token begins with. */
const mostReleased = 2

/**
 * One stream's redactor. `push` takes the raw bytes in order and returns what can be shown; bytes that may be the beginning
 * of a secret, or of a character, are held back until the next piece or `flush`; a line's end not for longer than until `release`. Holds back no
 * more than `SecretPatterns.longest`, or a line in which the job announces a secret.
 */
export class StreamRedactor {
  private held: Buffer = Buffer.alloc(0)
  /** What of the held bytes must be masked, whatever follows. */
  private heldMasked: Buffer | undefined
  private last: number | undefined
  /** How many of the held bytes are shown already: what follows is still looked at together with them. */
  private released = 0

  constructor(private readonly patterns: SecretPatterns) {}

  /** Bytes held back: the stream has been shown up to its read offset minus this. */
  get heldBytes(): number {
    return this.held.length - this.released
  }

  push(raw: Uint8Array): Buffer {
    const bytes = this.held.length === 0 ? Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength) : Buffer.concat([this.held, raw])
    const lineFrom = announcements(bytes, this.last, true, (value) => this.patterns.announce(value))
    const { masked, openFrom } = this.search(bytes, true)
    const whole = Math.min(lineFrom, Math.max(openFrom, bytes.length - this.patterns.longest))
    const cut = whole - openCharacter(bytes.subarray(0, whole))
    this.held = Buffer.from(bytes.subarray(cut))
    this.heldMasked = masked === undefined ? undefined : Buffer.from(masked.subarray(cut))
    if (cut > 0) this.last = bytes[cut - 1]
    return this.unreleased((masked ?? bytes).subarray(0, cut))
  }

  /** Whether `release` would show something. */
  get canRelease(): boolean {
    if (!this.held.subarray(this.released).includes(newline) || this.heldMasked?.includes(asterisk) === true) return false
    return this.held.filter((byte) => byte > 0x20).length <= mostReleased && this.held.every((byte) => byte < 0x80)
  }

  /** Nothing has followed for a while: what is held back of a line that has ended, when that is hardly anything. */
  release(): Buffer {
    if (!this.canRelease) return Buffer.alloc(0)
    const rest = this.held.subarray(this.released)
    this.released = this.held.length
    return rest
  }

  /** The rest, at the end of the stream. */
  flush(): Buffer {
    announcements(this.held, this.last, false, (value) => this.patterns.announce(value))
    const rest = this.search(this.held, false).masked ?? this.held
    this.held = Buffer.alloc(0)
    this.heldMasked = undefined
    return this.unreleased(rest)
  }

  private unreleased(shown: Buffer): Buffer {
    const before = Math.min(this.released, shown.length)
    this.released -= before
    return shown.subarray(before)
  }

  private search(bytes: Buffer, open: boolean): { readonly masked: Buffer | undefined; readonly openFrom: number } {
    const { masked, openFrom } = this.patterns.search(bytes, open, this.last)
    const before = this.heldMasked
    if (before === undefined) return { masked, openFrom }
    const all = masked ?? Buffer.from(bytes)
    for (let at = before.indexOf(asterisk); at !== -1; at = before.indexOf(asterisk, at + 1)) all[at] = asterisk
    return { masked: all, openFrom }
  }
}
