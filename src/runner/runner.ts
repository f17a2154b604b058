import type { CallOptions } from '../providers/provider.js'

/**
 * What a supervisor does in a sandbox. Every method is made of short, bounded `exec` calls of one POSIX sh script
 * (./runner.sh), repeated after `transient` errors where that is safe, and may be called again by another consumer
 * after the first was killed: each is idempotent for the same arguments.
 */
export interface Runner {
  /**
   * Puts the script into the sandbox, looks at what is there, and has git and CA certificates installed where the image lacks
   * them and `packages` lets it.
   * @throws InfrastructureError `invalid` that names the image and the mend when git, CA certificates or a POSIX shell with the
   * standard tools is missing and stays so.
   */
  install(options: InstallOptions): Promise<SandboxFacts>
  /**
   * Fetches one commit, shallow, into the work tree; or brings back a checkpoint exactly: work tree, untracked files,
   * deletions, modes, symlinks, and the agent's own commits with HEAD on them. Starts from an empty folder each time.
   */
  clone(request: CloneRequest, options: RunnerCallOptions): Promise<void>
  /**
   * Starts a command detached, in a session of its own, and reads it at once as `read` does: for a command that ends soon
   * it is the only call. Without `read` it does not wait and brings no output. A second start with the same key only reads.
   */
  start(command: StepCommand, options: RunnerCallOptions, read?: ReadRequest): Promise<OutputSlice>
  /**
   * Waits until there is output past the offsets, the command ended, or `waitMs` passed, and returns what is there,
   * at most `maxBytes` of both streams together. A command that is not running and left no exit code (it was killed with
   * its supervisor in the sandbox) counts as ended with exit code 137.
   */
  read(key: string, request: ReadRequest, options: RunnerCallOptions): Promise<OutputSlice>
  /** TERM to the command's whole group and everything that it daemonised as far as it can be found, then KILL after `graceMs`. */
  stop(key: string, graceMs: number, options: RunnerCallOptions): Promise<void>
  /**
   * Commits the work tree (untracked files included, ignored ones not) through an index of its own, so that the agent's
   * index and HEAD stay as they are, on top of `parent`, and pushes it to `branch`.
   * @returns null when nothing changed since `parent`.
   */
  checkpoint(request: CheckpointRequest, options: RunnerCallOptions): Promise<CheckpointResult | null>
  /**
   * Makes the final commit: the agent's own HEAD, or one commit on top of it for what it left uncommitted. The same
   * arguments on the same tree give the same sha.
   */
  commit(request: CommitRequest, options: RunnerCallOptions): Promise<{ readonly sha: string; readonly headSha: string }>
  /** Pushes a commit to a branch, never forced. A branch that stands at the commit already is success. */
  push(request: PushRequest, options: RunnerCallOptions): Promise<void>
  /**
   * Brings commits out of the sandbox as a pack, in pieces and checked by size and checksum: a broken one is `transient`.
   * What is in it is the sandbox's word and nothing more.
   * @throws InfrastructureError `invalid` when there are more than `maxBytes`.
   */
  pack(request: PackRequest, options: RunnerCallOptions): Promise<PackedCommits>
}

export type RunnerCallOptions = CallOptions

export interface InstallOptions extends RunnerCallOptions {
  /** Whether git will speak TLS, and so needs CA certificates. Default false. */
  readonly certificates?: boolean | undefined
  /** Whether what the image lacks may be installed in the sandbox. Left out: it may not. */
  readonly packages?: PackagePolicy | undefined
}

/** `timeoutMs`: how long an installation may take. `because`: a clause on why there is none, for the error. */
export type PackagePolicy = { readonly install: true; readonly timeoutMs: number } | { readonly install: false; readonly because: string }

export interface SandboxFacts {
  /** Absolute path of the work tree, below the sandbox user's home. */
  readonly repositoryPath: string
  readonly gitVersion: string
  readonly user: string
  /** What was installed just now, and how: `git and ca-certificates with apt-get`; null when the image has all. */
  readonly installed: string | null
}

/**
 * How git in the sandbox reaches the host. Without a token it sends none: something outside of the sandbox adds it, or there is no
 * need to reach the host.
 */
export interface SandboxAccess {
  /** Without credentials. */
  readonly url: string
  readonly username?: string | undefined
  readonly token?: string | undefined
}

export interface CloneRequest {
  readonly access: SandboxAccess
  /** The full ref that is expected at `sha`, for hosts that refuse to serve a bare sha; null to fetch the sha alone. */
  readonly ref: string | null
  /** The commit to start from; the checkpoint commit when restoring. */
  readonly sha: string
  /** The local branch to be on. */
  readonly branch: string
  /** Restore a checkpoint: the agent's HEAD in it and its distance from the base, for the depth of the fetch. */
  readonly checkpoint: { readonly headSha: string; readonly commitsAhead: number } | null
  /** The commits themselves, so that nothing is fetched; as deep as `cloneDepth` says. */
  readonly pack?: PackSource | undefined
}

/** How many commits deep the history is that a clone starts with. */
export function cloneDepth({ checkpoint }: Pick<CloneRequest, 'checkpoint'>): number {
  return checkpoint === null ? 1 : checkpoint.commitsAhead + 2
}

/** A pack on the consumer, read in pieces. */
export interface PackSource {
  /** Its checksum, 40 hexadecimal digits. */
  readonly name: string
  readonly bytes: number
  /** The commits at which its history is cut off, a line each, as git keeps them in its file `shallow`. */
  readonly shallow: string
  /** @returns exactly that many bytes. */
  read(offset: number, length: number): Promise<Buffer>
}

export interface StepCommand {
  /** Unique in the job; letters, digits, "-" and ".". */
  readonly key: string
  readonly run: string
  /** Relative to the work tree. */
  readonly cwd: string | undefined
  /** Secrets included. It reaches the command through its environment only. */
  readonly env: Readonly<Record<string, string>>
}

export interface ReadRequest {
  readonly stdoutOffset: number
  readonly stderrOffset: number
  readonly waitMs: number
  readonly maxBytes: number
}

export interface OutputSlice {
  readonly stdout: Uint8Array
  readonly stderr: Uint8Array
  /** How much the command has printed so far, in bytes. */
  readonly stdoutSize: number
  readonly stderrSize: number
  /** Null while it runs. Output may remain to be read when it is set. */
  readonly exitCode: number | null
}

export interface CommitIdentity {
  readonly name: string
  readonly email: string
}

export interface CheckpointRequest {
  readonly parent: string
  /** Where the job started, to count the agent's own commits. */
  readonly baseSha: string
  readonly branch: string
  readonly message: string
  readonly identity: CommitIdentity
  /** Null to make the checkpoint and push nothing. */
  readonly access: SandboxAccess | null
}

export interface CheckpointResult {
  readonly sha: string
  readonly headSha: string
  readonly commitsAhead: number
}

export interface CommitRequest {
  /** Subject, body and trailers. */
  readonly message: string
  readonly author: CommitIdentity
  readonly committer: CommitIdentity
  /** Seconds since 1970, fixed by the job so that a repetition gives the same sha. */
  readonly dateSeconds: number
}

export interface PushRequest {
  readonly sha: string
  readonly branch: string
  readonly access: SandboxAccess
}

export interface PackRequest {
  readonly sha: string
  /** Where the job started. What leads to it or to `parentSha` is left out. */
  readonly baseSha: string
  /** The last of the job's commits that the host has; the base when there is none. */
  readonly parentSha: string
  readonly maxBytes: number
  /** Takes the pieces, in order, one at a time. */
  readonly write: (piece: Buffer) => Promise<void>
}

export interface PackedCommits {
  /** The pack's checksum, 40 hexadecimal digits. */
  readonly name: string
  readonly bytes: number
  /** How many commits deep the history of `parentSha` is that the commits may build on, by what the sandbox says. */
  readonly depth: number
}
