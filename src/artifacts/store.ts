/**
 * Where artifacts go when a job ends: a folder (./folder-store.ts) or S3 (./s3-store.ts). What a store is given was named, bounded and counted by
 * the consumer; a job has no say in where it goes but by its path, which was checked (`artifactPathProblem`).
 *
 * Every call throws only `InfrastructureError`, whose owner is never the job: `consumer-keys` for refused credentials,
 * `consumer-configuration` for what is set wrong (a bucket that is not there, a disk that is full), `deployment` for a store that does not answer.
 */
export interface ArtifactStore {
  /** For messages: `folder /var/artifacts`, `s3://bucket`. */
  readonly name: string
  readonly limits: ArtifactLimits
  /**
   * Stores a file; a second time under the same name takes the place of the first. Passing errors are tried again within the call's time.
   * @returns where it is, as results hold it.
   */
  put(object: StoredObject, options: StoreCallOptions): Promise<string>
  /**
   * A link that opens an artifact for a while: presigned, or the file's own URL.
   * @param where as a result holds it.
   * @throws InvalidInputError when it is none of this store's.
   */
  link(where: string, options: { readonly expiresInSeconds: number }): Promise<string>
  /** Whether it can be written to. @returns warnings to show. */
  check(options: StoreCallOptions): Promise<readonly string[]>
  close(): void
}

export interface StoreCallOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

export interface StoredObject {
  /** The job's and the attempt's folder, and the file's path in it: parts with `/` between, none of them empty, `.` or `..`. */
  readonly key: string
  readonly sizeBytes: number
  readonly mediaType: string
  readonly sha256: string
  /** Its bytes, or the file that holds them. */
  readonly content: { readonly bytes: Buffer } | { readonly file: string }
}

/** What of a job's artifacts is stored at most. */
export interface ArtifactLimits {
  readonly maxFileBytes: number
  readonly maxJobBytes: number
  readonly maxFiles: number
}
