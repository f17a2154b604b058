/** Something that must not be. `jobId` is null when it concerns no job, or several. */
export interface Violation {
  readonly jobId: string | null
  readonly what: string
}
