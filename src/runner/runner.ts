import type { LfsPolicy } from '../job/spec.js'
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
   * Fetches one commit, shallow, into the work tree, or a checkpoint: then a clean checkout of its files, with its
   * `checkpoint.paths` in place, on which setup does what it did the first time. Starts from an empty folder each time.
   */
  clone(request: CloneRequest, options: RunnerCallOptions): Promise<CloneResult>
  /**
   * Brings back what the checkpoint that `clone` fetched holds beside its files: HEAD, branches, tags, stash, index,
   * configuration, operations under way, empty folders, modes, nested repositories and worktrees, and `checkpoint.paths` once
   * more where setup changed them. Called after setup and before the next step. Without a checkpoint, or a second time, it does nothing.
   */
  restore(request: RestoreRequest, options: RunnerCallOptions): Promise<RestoreResult>
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
   * Makes a checkpoint on top of `parent`: what the agent's own `git add -A` would stage, its HEAD, and what a tree can't
   * hold. The agent's index, HEAD and files stay as they are, and no token is near; `push` comes after it, in a call of its own.
   * @returns null when nothing changed since `parent`.
   */
  checkpoint(request: CheckpointRequest, options: RunnerCallOptions): Promise<CheckpointResult | null>
  /**
   * Makes the final commit: the agent's own HEAD, or one commit on top of it for what it left uncommitted. The same
   * arguments on the same tree give the same sha.
   */
  commit(request: CommitRequest, options: RunnerCallOptions): Promise<CommitResult>
  /**
   * Pushes a commit to a branch, never forced. A branch that stands at the commit already is success.
   * LFS objects that the agent made are uploaded first.
   * @throws InfrastructureError `invalid` when the host does not take these commits; then `plain` of what was made can be tried.
   * `LfsUploadError` when LFS objects can't be uploaded from there, and nothing was pushed.
   */
  push(request: PushRequest, options: RunnerCallOptions): Promise<void>
  /**
   * The LFS objects that lead to a commit, were made in the sandbox and are not known to be at the host.
   * @throws InfrastructureError `invalid` when there are more than 1000.
   */
  lfsObjects(sha: string, options: RunnerCallOptions): Promise<LfsObjects>
  /** Brings an LFS object out of the sandbox, in pieces. What it is has to be checked by its sha256. */
  readLfsObject(object: Pick<LfsObject, 'oid' | 'size'>, write: (piece: Buffer) => Promise<void>, options: RunnerCallOptions): Promise<void>
  /** Says that the host has LFS objects: they are not uploaded again. */
  lfsSent(oids: readonly string[], options: RunnerCallOptions): Promise<void>
  /** Says that the host does not take LFS objects: files that need them keep their last entry in what is made from then on. */
  withholdLfs(oids: readonly string[], options: RunnerCallOptions): Promise<void>
  /**
   * Brings commits out of the sandbox as a pack, in pieces and checked by size and checksum: a broken one is `transient`.
   * What is in it is the sandbox's word and nothing more.
   * @throws InfrastructureError `invalid` when there are more than `maxBytes`.
   */
  pack(request: PackRequest, options: RunnerCallOptions): Promise<PackedCommits>
  /** Looks for the files of the work tree that patterns name (`artifactPatternProblem` has their rules): regular ones, with no link on the way. */
  listArtifacts(request: ArtifactRequest, options: RunnerCallOptions): Promise<ArtifactListing>
  /**
   * Brings files out of the sandbox, small ones first, several in a call; of each as many bytes as were listed, in pieces. What they hold is
   * the sandbox's word. An error ends it; `take` has got the files before that.
   * @param take handles one file, and is waited for. Null in place of its pieces when it is gone, or no regular file any more. The pieces of one that became shorter
   * end with an `InfrastructureError` `invalid`.
   */
  readArtifacts(files: readonly ListedArtifact[], take: (file: ListedArtifact, pieces: AsyncIterable<Buffer> | null) => Promise<void>, options: RunnerCallOptions): Promise<void>
}

export interface ArtifactRequest {
  readonly patterns: readonly string[]
  /** How many files are listed at most. */
  readonly most: number
}

export interface ArtifactListing {
  readonly files: readonly ListedArtifact[]
  /** What the patterns name and can't be had. */
  readonly odd: readonly OddArtifact[]
  /** Whether there were more than `most`. */
  readonly more: boolean
  /** Whether the call's time was not enough to look at all files. */
  readonly unfinished: boolean
}

export interface ListedArtifact {
  /** In the work tree: no part of it is empty, `.` or `..`. */
  readonly path: string
  readonly sizeBytes: number
}

export interface OddArtifact {
  readonly path: string
  /** A clause. */
  readonly reason: string
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
  /** Absolute path of the work tree: /home/user/repository where the sandbox has that to give, else below its user's home. */
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
  /** Where Git LFS is served; left out: below `url`, as git-lfs finds it. */
  readonly lfsUrl?: string | undefined
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
  readonly checkpoint: { readonly headSha: string; readonly commitsAhead: number; readonly baseSha: string } | null
  /** The spec's `checkpoint.paths`, to be put in place from the checkpoint. */
  readonly paths?: readonly string[] | undefined
  /** How files of Git LFS are treated. Default `auto`. */
  readonly lfs?: LfsPolicy | undefined
  /** The commits themselves, so that nothing is fetched; as deep as `cloneDepth` says. */
  readonly pack?: PackSource | undefined
}

/** How many commits deep the history is that a clone starts with. */
export function cloneDepth({ checkpoint }: Pick<CloneRequest, 'checkpoint'>): number {
  return checkpoint === null ? 1 : checkpoint.commitsAhead + 2
}

export interface CloneResult {
  /** Sentences for the job's log on what could not be had. */
  readonly notes: readonly string[]
}

export interface RestoreRequest {
  /** As of `CloneRequest`. */
  readonly paths?: readonly string[] | undefined
  /** The environment of the next step: it may say where the user's configuration of git lies. */
  readonly env?: Readonly<Record<string, string>> | undefined
}

export interface RestoreResult {
  /** Whether a checkpoint was brought back, by this call or an earlier one. */
  readonly restored: boolean
  /** Whether the checkpoint held something under `checkpoint.paths`. */
  readonly pathsRestored: boolean
  /** Sentences for the job's log on what could not be brought back. */
  readonly notes: readonly string[]
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

/** How what was made is saved, beside the tree of the agent's `git add -A`. */
export interface SaveOptions {
  /** `files` (the default): the files of nested repositories that are no submodules are saved as files; `gitlink`: as git does. */
  readonly nestedRepositories?: 'files' | 'gitlink' | undefined
}

export interface CheckpointRequest extends SaveOptions {
  readonly parent: string
  /** Where the job started, to count the agent's own commits. */
  readonly baseSha: string
  readonly message: string
  readonly identity: CommitIdentity
  /** The spec's `checkpoint.paths`: relative to the work tree, or to the home after `~/`. */
  readonly paths?: readonly string[] | undefined
  /** How large all of them may be together, in bytes. Default 256 MiB. */
  readonly maxPathsBytes?: number | undefined
  /** Gets what a checkpoint that is none, since nothing changed, has to tell all the same: what could not be saved. */
  readonly onUnchanged?: ((report: SaveReport) => void) | undefined
}

/** What a save has to tell. All of it comes out of the sandbox, and is bounded. */
export interface SaveReport {
  /** Paths whose content is not in the commit as it is now; at most 200. */
  readonly unsaved: readonly UnsavedPath[]
  /** How many more there were than `unsaved` names. */
  readonly unsavedMore: number
  /** Sentences for the job's log; at most 50. */
  readonly notes: readonly string[]
  /** Commits that the agent made and that the branch does not lead to: other branches, linked worktrees; at most 50. */
  readonly kept: readonly KeptTip[]
}

export interface UnsavedPath {
  readonly path: string
  /** A clause: why it was not saved. */
  readonly reason: string
}

export interface KeptTip {
  /** What holds it: a full ref, or `worktree PATH`, or `submodule PATH`. */
  readonly ref: string
  readonly sha: string
}

/** A commit that was made, and how it stands to where the job began. */
export interface MadeCommit {
  readonly sha: string
  /** The agent's HEAD in it; null when that has no commit yet. */
  readonly headSha: string | null
  /** How many commits HEAD is past the base. */
  readonly commitsAhead: number
}

export interface CheckpointResult extends MadeCommit, SaveReport {
  /** Whether HEAD descends from the base. */
  readonly descends: boolean
  /** Whether it holds something under `checkpoint.paths`. */
  readonly holdsPaths: boolean
  /** What it holds beyond the checkpoint before, as git packs it, in bytes; 0 for one that an earlier call has made. As the sandbox says. */
  readonly bytes: number
  /** The same files on the last history that the host has, and nothing else: for a host that refuses the rest. */
  readonly plain: MadeCommit
}

export interface CommitRequest extends SaveOptions {
  /** Subject, body and trailers. */
  readonly message: string
  readonly author: CommitIdentity
  readonly committer: CommitIdentity
  /** Seconds since 1970, fixed by the job so that a repetition gives the same sha. */
  readonly dateSeconds: number
}

export interface CommitResult extends SaveReport {
  readonly sha: string
  /** The agent's HEAD; null when that has no commit yet. */
  readonly headSha: string | null
  /** Whether the commit descends from the base. */
  readonly descends: boolean
  /** The sha of the same files as one commit on the last history that the host has: for a host that refuses the agent's own. */
  readonly plainSha: string
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
  /** The commits of before, at most 200, that the commits build on, by what the sandbox says; empty when there are more. */
  readonly borders: readonly string[]
  /** How many commits deep the history of `parentSha` is that the commits may build on, by what the sandbox says. */
  readonly depth: number
  /** How many LFS objects lead to them that are not known to be at the host. */
  readonly lfsObjects: number
}

export interface LfsObjects {
  /** Those that the job made and that the host was not sent yet. */
  readonly made: readonly LfsObject[]
  /** Those that the commits need and that are not in the sandbox, the first thousand. The host may have them. */
  readonly absent: readonly LfsObject[]
}

export interface LfsObject {
  /** Its sha256. */
  readonly oid: string
  /** In bytes. */
  readonly size: number
  /** A file that it is the content of; empty when that is not known. */
  readonly path: string
}
