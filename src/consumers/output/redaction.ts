/**
 * Masks secret values in a stream of bytes, also where a value is split over pieces. A mask is as long as what it hides, so
 * that offsets into the stream stay true.
 */

/** The byte patterns to hide: every value as it is and in the encodings in which tools like to print it. */
export class SecretPatterns {
  private readonly patterns = new Map<string, Buffer>()
  /** Length of the longest pattern, in bytes. */
  longest = 0

  /** Adds a value. Tokens that are minted while a job runs are added as they come. */
  add(value: string): void {
    if (value === '') return
    const encodings = [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value), Buffer.from(value).toString('base64')]
    for (const text of encodings) {
      const bytes = Buffer.from(text)
      this.patterns.set(bytes.toString('latin1'), bytes)
      this.longest = Math.max(this.longest, bytes.length)
    }
  }

  values(): Iterable<Buffer> {
    return this.patterns.values()
  }

  /** Masks every value in a whole text, such as an error's message. */
  mask(text: string): string {
    return maskBytes(Buffer.from(text), this).toString('utf8')
  }
}

/** Masks every pattern in `bytes` with asterisks of the same length. Returns `bytes` itself when there is none. */
export function maskBytes(bytes: Buffer, patterns: SecretPatterns): Buffer {
  let masked: Buffer | undefined
  for (const pattern of patterns.values()) {
    for (let at = bytes.indexOf(pattern); at !== -1; at = bytes.indexOf(pattern, at + 1)) {
      // Search the original, mark the copy: two values that overlap are both hidden.
      masked ??= Buffer.from(bytes)
      masked.fill(0x2a, at, at + pattern.length)
    }
  }
  return masked ?? bytes
}

/** How many bytes at the end of `bytes` may be the beginning of a pattern that goes on in the next piece. */
export function openTail(bytes: Buffer, patterns: SecretPatterns): number {
  let longest = 0
  for (const pattern of patterns.values()) {
    const from = Math.max(0, bytes.length - pattern.length + 1)
    for (let at = from; at < bytes.length - longest; at++) {
      if (bytes[at] === pattern[0] && bytes.subarray(at).equals(pattern.subarray(0, bytes.length - at))) {
        longest = bytes.length - at
        break
      }
    }
  }
  return longest
}

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

/**
 * One stream's redactor. `push` takes the raw bytes in order and returns what can be shown; bytes that may be the beginning
 * of a secret, or of a character, are held back until the next piece or `flush`. Holds back less than the longest secret.
 */
export class StreamRedactor {
  private held: Buffer = Buffer.alloc(0)

  constructor(private readonly patterns: SecretPatterns) {}

  /** Bytes held back: the stream has been shown up to its read offset minus this. */
  get heldBytes(): number {
    return this.held.length
  }

  push(raw: Uint8Array): Buffer {
    const bytes = Buffer.concat([this.held, raw])
    let keep = openTail(bytes, this.patterns)
    keep += openCharacter(bytes.subarray(0, bytes.length - keep))
    // A complete pattern that ends inside the held part must be masked as a whole: mask first, then cut.
    const masked = maskBytes(bytes, this.patterns)
    const cut = bytes.length - keep
    this.held = bytes.subarray(cut)
    const shown = masked.subarray(0, cut)
    // A secret that lies across the cut was masked in `shown` only up to the cut; hold all of it back instead.
    const across = this.startOfPatternAcross(bytes, cut)
    if (across < cut) {
      this.held = bytes.subarray(across)
      return masked.subarray(0, across)
    }
    return shown
  }

  /** The rest, at the end of the stream. */
  flush(): Buffer {
    const rest = maskBytes(this.held, this.patterns)
    this.held = Buffer.alloc(0)
    return rest
  }

  private startOfPatternAcross(bytes: Buffer, cut: number): number {
    let start = cut
    for (let moved = true; moved; ) {
      moved = false
      for (const pattern of this.patterns.values()) {
        const at = bytes.indexOf(pattern, Math.max(0, start - pattern.length + 1))
        if (at !== -1 && at < start && at + pattern.length > start) {
          start = at
          moved = true
        }
      }
    }
    return start
  }
}
