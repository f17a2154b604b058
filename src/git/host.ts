import type { FileHunks } from '../job/patch.js'
import type { Diff, Promotion } from '../job/result.js'
import type { OpenedPullRequest, PullRequestRequest } from './pull-requests/request.js'
import type { ProvenanceCheck, SignatureCheck, Signed, SigningOptions, SignRequest } from './signature.js'

/**
 * Where repositories live. Two implementations: Code Storage (./code-storage.ts) and any HTTPS git host with a token
 * callback (./https-host.ts). Everything here runs in the consumer; a sandbox sees only what `GitAccess` holds.
 *
 * Every call throws only `InfrastructureError`: `invalid` for a repository, ref or branch that does not exist, `auth` for a
 * refused token, `rate-limited`, `transient` for a passing fault (the caller retries), `provider-down` when the host does not
 * answer. `promote` throws `PromotionConflictError` besides. No message ever holds a token.
 */
export interface GitHost {
  readonly name: string
  /** Host names that a sandbox must reach for git, with their port where it is not 443. */
  readonly hosts: readonly string[]
  /** True when job branches live in an ephemeral namespace of their own. */
  readonly ephemeral: boolean

  /**
   * Checks what can be checked without a repository: that the host answers, and that it takes the credentials where it can
   * tell.
   * @returns warnings to show, such as what could not be checked.
   * @throws InfrastructureError `auth` for a refused key, otherwise as every call.
   */
  check(options: GitCallOptions): Promise<readonly string[]>
  /**
   * Finds the commit that a ref means now.
   * @param ref a branch, a tag or a full sha; null for the default branch.
   * @throws InfrastructureError `invalid` when the repository or the ref does not exist.
   */
  resolve(repository: string, ref: string | null, options: GitCallOptions): Promise<ResolvedRef>
  /** Head of a branch; null when there is none. */
  branchHead(repository: string, branch: BranchName, options: GitCallOptions): Promise<string | null>
  /** Mints access to fetch, for the seconds that a fetch takes. `ephemeral`: from the namespace of job branches. */
  readAccess(repository: string, options: AccessOptions & { readonly ephemeral: boolean }): Promise<GitAccess>
  /** Mints access to push to exactly one job branch, fast-forward only, and nothing else. */
  writeAccess(repository: string, options: AccessOptions & { readonly branch: string }): Promise<GitAccess>
  /**
   * Moves a normal branch to a job branch's head, as a compare-and-swap.
   * When `to` stands at `sha` already (a lost answer), that is success with `no_op`.
   */
  promote(request: PromotionRequest, options: GitCallOptions): Promise<Promotion>
  /**
   * Opens a pull request, or updates the one that is open for the same branches: once, however often it is asked with the same arguments. Left out by
   * hosts that have none.
   * @param beforeOpen asked right before one is made; what it throws prevents that.
   * @returns null when the branches do not differ.
   * @throws InfrastructureError as every call; `auth` of the consumer's keys where they may not, `invalid` of the job for a base that is not there.
   */
  readonly openPullRequest?: ((request: PullRequestRequest, options: GitCallOptions, beforeOpen: () => Promise<void>) => Promise<OpenedPullRequest | null>) | undefined
  /** How the commits of jobs are signed; null when they are not. */
  readonly signing: SigningOptions | null
  /**
   * Signs what a job branch stands at, as `signing` says, and moves the branch to it, as a compare-and-swap.
   * @param beforePush told the commit before it is pushed, so that a push whose answer is lost is known again; what it throws prevents it.
   * @throws InfrastructureError `invalid` of the consumer's configuration when the key can't be used.
   */
  sign(repository: string, request: SignRequest, options: GitCallOptions, beforePush: (signed: Signed) => Promise<void>): Promise<Signed>
  /**
   * Holds a commit's signature against public keys: SSH keys as lines, OpenPGP keys armored.
   * @throws InfrastructureError `invalid` when there is no such commit.
   */
  checkSignature(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<SignatureCheck>
  /** Leaves a provenance statement on a commit, as a note where normal branches are, or in the namespace of job branches. */
  attest(repository: string, note: { readonly sha: string; readonly ephemeral: boolean; readonly statement: object }, options: GitCallOptions): Promise<void>
  /** Reads a commit's provenance statement and holds it against public keys. */
  provenance(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<ProvenanceCheck>
  /** Deletes a job branch; gone before is fine. */
  deleteBranch(repository: string, branch: BranchName, options: GitCallOptions): Promise<void>
  /** What a job branch changed against a commit. */
  diff(repository: string, request: DiffRequest, options: GitCallOptions): Promise<DiffAnswer>
}

export interface DiffRequest {
  readonly branch: string
  readonly baseSha: string
  readonly headSha: string
  /** Whether the changed lines are asked for too. */
  readonly lines?: boolean | undefined
}

export interface DiffAnswer extends Diff {
  /** The changed lines, bounded; left out where they were not asked for, and null where this host gives none. */
  readonly hunks?: readonly FileHunks[] | null | undefined
}

export interface GitCallOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

export interface AccessOptions {
  /** How long the token is good for, in seconds. Default 120. */
  readonly ttlSeconds?: number | undefined
}

/** Short-lived access to one repository. The token reaches git only through the environment of one process. */
export interface GitAccess {
  /** Without credentials: `https://acme.code.storage/acme/web.git`. Fit for argv and logs. */
  readonly url: string
  /** Where Git LFS is served, without credentials; left out: below `url`, as git-lfs finds it. */
  readonly lfsUrl?: string | undefined
  readonly username: string
  readonly token: string
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number
}

export interface BranchName {
  readonly name: string
  /** In the namespace of job branches; ignored by hosts without one. */
  readonly ephemeral: boolean
}

export interface ResolvedRef {
  /** The full ref (`refs/heads/main`) that names the commit; null for a bare sha. */
  readonly ref: string | null
  readonly sha: string
}

export interface PromotionRequest {
  readonly repository: string
  /** The job branch and its head. */
  readonly branch: string
  readonly sha: string
  /** The normal branch to move. */
  readonly to: string
  readonly strategy: 'ff_only' | 'ff_prefer' | 'merge'
  /** Where `to` must stand; null when it must not exist yet. */
  readonly expectedTargetSha: string | null
  /** For a merge commit. */
  readonly message: string
}
