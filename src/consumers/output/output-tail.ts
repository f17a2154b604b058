/** The last bytes of a stream, for results. Holds at most twice `maxBytes`. */
export class OutputTail {
  private kept: Buffer = Buffer.alloc(0)

  constructor(private readonly maxBytes: number) {}

  push(bytes: Uint8Array): void {
    this.kept = Buffer.concat([this.kept, bytes.length > this.maxBytes ? bytes.subarray(bytes.length - this.maxBytes) : bytes])
    if (this.kept.length > this.maxBytes) this.kept = Buffer.from(this.kept.subarray(this.kept.length - this.maxBytes))
  }

  /** As UTF-8, beginning at a whole character; NUL and invalid bytes become U+FFFD. */
  text(): string {
    let start = 0
    while (start < Math.min(3, this.kept.length) && ((this.kept[start] ?? 0) & 0xc0) === 0x80) start++
    return this.kept.subarray(start).toString('utf8').replaceAll('\0', '\uFFFD')
  }
}
