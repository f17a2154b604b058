/** A piece of a job's output, as the log stream holds it. */
export interface LogChunk {
  /** The step's name, or `switchyard` for what the system says itself. */
  readonly step: string
  readonly stream: 'stdout' | 'stderr' | 'system'
  /** The attempt that printed it, from 1. */
  readonly attempt: number
  /** Where in the step's stream the first byte stands; a gap to the piece before means that the middle was left out. */
  readonly offset: number
  /** The bytes as printed, secrets masked. */
  readonly data: Uint8Array
}

/** A piece of a job's output, as `logs()` yields it. */
export interface LogLine extends LogChunk {
  /** Rises by one with each piece of a job; pass it to `logs({ after })` to go on behind it. */
  readonly seq: number
  /** Milliseconds since 1970. */
  readonly atMs: number
  /** The bytes as UTF-8; invalid bytes become U+FFFD. */
  readonly text: string
}
