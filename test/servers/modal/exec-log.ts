/** All that a command printed on one of its streams, kept whole: clients resume reading by offset. */
export class ExecLog {
  private readonly chunks: Buffer[] = []
  private size = 0
  private ended = false
  private waiting: (() => void)[] = []

  append(chunk: Buffer): void {
    this.chunks.push(chunk)
    this.size += chunk.length
    this.wake()
  }

  end(): void {
    this.ended = true
    this.wake()
  }

  /** What there is from `offset` on, and then what comes, until the end. Ends early when `signal` aborts. */
  async *read(offset: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    let at = offset
    let start = 0
    for (let index = 0; ; ) {
      const chunk = this.chunks[index]
      if (chunk === undefined) {
        if (this.ended || signal.aborted) return
        await this.change(signal)
        continue
      }
      if (at < start + chunk.length) {
        // A message of gRPC may have 4 MiB by default; a pipe gives at most 64 KiB at once.
        yield chunk.subarray(at - start)
        at = start + chunk.length
      }
      start += chunk.length
      index += 1
    }
  }

  get length(): number {
    return this.size
  }

  private async change(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.waiting.push(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve()
  }
}
