import { InfrastructureError, PromotionConflictError } from '../job/errors.js'
import { branchNameProblem, repositoryProblem } from '../job/names.js'
import type { Promotion } from '../job/result.js'
import { CodeStorageClient, type ApiPaths, type Conflict } from './code-storage-client.js'
import type { AccessOptions, BranchName, DiffAnswer, DiffRequest, GitAccess, GitCallOptions, GitHost, PromotionRequest, ResolvedRef } from './host.js'
import { hunksOf } from './hunks.js'
import { lsRemote } from './ls-remote.js'
import { onlyBranch, onlyBranchAnywhere, onlyRef, TokenMinter, type RefPolicy, type TokenAlgorithm, type TokenScope } from './mint.js'
import { checkProvenance, provenanceRef, writeProvenance } from './provenance-note.js'
import { branchInTheWay, candidateRefs, maxDiffPaths, movedTarget, noRepository, refsInTheWay, switchyardIdentity, type Identity } from './rules.js'
import { checkCommitSignature, signBranch } from './sign-branch.js'
import type { ProvenanceCheck, SignatureCheck, Signed, SigningOptions, SignRequest } from './signature.js'
import { publicKeyOf } from './signing.js'
import { baseUrl, hostWithPort } from './url.js'

export interface CodeStorageHostOptions {
  /** For messages. Default `code-storage`. */
  readonly name?: string | undefined
  readonly org: string
  /** PKCS#8 PEM. */
  readonly privateKey: string | (() => string)
  readonly algorithm?: TokenAlgorithm | undefined
  readonly kid?: string | undefined
  /** Base of the git URLs. Default `https://<org>.code.storage`. */
  readonly storageUrl?: string | undefined
  /** Base of the HTTP API, without `/api`. Default `https://api.<org>.code.storage`. */
  readonly apiUrl?: string | undefined
  /** Which of the API's addresses are called. Default `v1`. */
  readonly apiPaths?: ApiPaths | undefined
  /** Who makes merge commits. Default `Switchyard <switchyard@users.noreply.invalid>`. */
  readonly mergeAuthor?: Identity | undefined
  /** How the commits of jobs are signed. Default: not at all. */
  readonly signing?: SigningOptions | undefined
  readonly fetch?: typeof globalThis.fetch | undefined
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** Code Storage: job branches live in its ephemeral namespace, tokens are minted here. */
export class CodeStorageHost implements GitHost {
  readonly name: string
  readonly hosts: readonly string[]
  readonly ephemeral = true
  readonly signing: SigningOptions | null
  /** The HTTP API, for what only an operator needs, such as creating repositories. */
  readonly client: CodeStorageClient
  readonly #minter: TokenMinter
  readonly #storageUrl: string
  readonly #mergeAuthor: Identity

  /** @throws InvalidInputError when the key or a URL can't be used. */
  constructor(options: CodeStorageHostOptions) {
    this.name = options.name ?? 'code-storage'
    this.#minter = new TokenMinter(options)
    this.#storageUrl = baseUrl('storageUrl', options.storageUrl ?? `https://${options.org}.code.storage`)
    const apiUrl = baseUrl('apiUrl', options.apiUrl ?? `https://api.${options.org}.code.storage`)
    this.client = new CodeStorageClient({ name: this.name, apiUrl, apiPaths: options.apiPaths, minter: this.#minter, fetch: options.fetch, now: options.now })
    this.hosts = [hostWithPort(this.#storageUrl)]
    this.#mergeAuthor = options.mergeAuthor ?? switchyardIdentity
    this.signing = options.signing ?? null
  }

  async check(options: GitCallOptions): Promise<readonly string[]> {
    if (this.signing !== null) await publicKeyOf(this.name, this.signing)
    // Both addresses; a token that is taken finds no such repository.
    await this.client.repository(noRepository, options)
    await lsRemote(this.name, await this.readAccess(noRepository, { ephemeral: false }), ['HEAD'], options).catch((error: unknown) => {
      if (!(error instanceof InfrastructureError) || error.kind !== 'invalid') throw error
    })
    return []
  }

  async resolve(repository: string, ref: string | null, options: GitCallOptions): Promise<ResolvedRef> {
    const known = await this.client.repository(this.#checked(repository), options)
    if (known === null) throw this.#invalid(`repository "${repository}" does not exist; check its id, or create it`)
    const wanted = ref ?? known.defaultBranch
    if (/^[0-9a-f]{40}$/.test(wanted)) return this.#commit(repository, wanted, options)
    const candidates = candidateRefs(wanted)
    if (candidates.length > 0) {
      const access = await this.readAccess(repository, { ephemeral: false })
      const { refs } = await lsRemote(this.name, access, candidates, options)
      for (const candidate of candidates) {
        const sha = refs.get(candidate)
        if (sha !== undefined) return { ref: candidate, sha }
      }
    }
    if (/^[0-9a-f]{7,39}$/.test(wanted)) return this.#commit(repository, wanted, options)
    if (ref === null) throw this.#invalid(`repository "${repository}" has no commit on its default branch "${wanted}"; push one first`)
    throw this.#invalid(`ref: "${ref}" is neither a branch, a tag nor a commit of "${repository}"`)
  }

  async branchHead(repository: string, branch: BranchName, options: GitCallOptions): Promise<string | null> {
    const ref = `refs/heads/${this.#checkedBranch(branch.name)}`
    const access = await this.readAccess(repository, { ephemeral: branch.ephemeral })
    return (await lsRemote(this.name, access, [ref], options)).refs.get(ref) ?? null
  }

  async readAccess(repository: string, options: AccessOptions & { readonly ephemeral: boolean }): Promise<GitAccess> {
    return this.#access(repository, options.ephemeral, ['git:read'], options.ttlSeconds)
  }

  async writeAccess(repository: string, options: AccessOptions & { readonly branch: string }): Promise<GitAccess> {
    return this.#access(repository, true, ['git:write'], options.ttlSeconds, onlyBranch(this.#checkedBranch(options.branch)))
  }

  async sign(repository: string, request: SignRequest, options: GitCallOptions, beforePush: (signed: Signed) => Promise<void>): Promise<Signed> {
    if (this.signing === null) throw new Error('git.signing is not configured')
    const branch = this.#checkedBranch(request.branch)
    const [read, write] = await Promise.all([
      this.readAccess(repository, { ephemeral: true }),
      this.#access(repository, true, ['git:write'], undefined, onlyBranchAnywhere(branch)),
    ])
    return signBranch(this.name, { read, write }, this.signing, request, options, beforePush)
  }

  async checkSignature(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<SignatureCheck> {
    return checkCommitSignature(this.name, await this.readAccess(repository, { ephemeral: false }), sha, publicKeys, options)
  }

  async attest(repository: string, note: { sha: string; ephemeral: boolean; statement: object }, options: GitCallOptions): Promise<void> {
    if (this.signing === null) throw new Error('git.signing is not configured')
    const [read, write] = await Promise.all([
      this.readAccess(repository, note),
      this.#access(repository, note.ephemeral, ['git:write'], undefined, onlyRef(provenanceRef)),
    ])
    await writeProvenance(this.name, { read, write }, this.signing, note, options)
  }

  async provenance(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<ProvenanceCheck> {
    const found = await checkProvenance(this.name, await this.readAccess(repository, { ephemeral: false }), sha, publicKeys, options)
    return found.found ? found : checkProvenance(this.name, await this.readAccess(repository, { ephemeral: true }), sha, publicKeys, options)
  }

  async promote(request: PromotionRequest, options: GitCallOptions): Promise<Promotion> {
    const { repository, to, sha, expectedTargetSha } = request
    const target = { name: this.#checkedBranch(to), ephemeral: false }
    const source = { name: this.#checkedBranch(request.branch), ephemeral: true }
    const [head, sourceHead] = await Promise.all([this.branchHead(repository, target, options), this.branchHead(repository, source, options)])
    const done = await this.#promotedBefore(request, head, options)
    if (done !== null) return done
    if (head !== expectedTargetSha) throw movedTarget(request, head)
    // The API merges a branch, not a commit: what stands there must be what was asked for.
    if (sourceHead !== sha) {
      throw this.#invalid(`branch "${request.branch}" of "${repository}" is at ${sourceHead ?? 'nothing'}, not at ${sha}; it can’t be promoted to "${to}"`)
    }
    if (expectedTargetSha === null) return this.#create(request, source, target, options)
    const { strategy, message } = request
    const outcome = await this.client.merge(repository, { source, target, strategy, expectedTargetSha, message, author: this.#mergeAuthor, verified: this.signing?.verifyAtTarget }, options)
    if ('conflict' in outcome) throw this.#conflict(request, outcome.conflict)
    const { result, target: moved } = outcome.merged
    if (result === 'squash' || result === 'unknown') return { to, sha: moved.new_sha, result: moved.new_sha === sha ? 'fast_forward' : 'merge_commit' }
    return { to, sha: moved.new_sha, result }
  }

  async deleteBranch(repository: string, branch: BranchName, options: GitCallOptions): Promise<void> {
    await this.client.deleteBranch(this.#checked(repository), { ...branch, name: this.#checkedBranch(branch.name) }, options)
  }

  async diff(repository: string, request: DiffRequest, options: GitCallOptions): Promise<DiffAnswer> {
    const { stats, files, filtered_files: filtered } = await this.client.diff(this.#checked(repository), request, options)
    const paths = [...files, ...filtered].map((file) => file.path).sort()
    const hunks = request.lines === true ? { hunks: hunksOf(files.map(({ path, raw }) => ({ path, patch: raw }))) } : {}
    return { files: stats.files, additions: stats.additions, deletions: stats.deletions, paths: paths.slice(0, maxDiffPaths), ...hunks }
  }

  /** What a promotion with the same arguments has done already; its answer was lost. */
  async #promotedBefore(request: PromotionRequest, head: string | null, options: GitCallOptions): Promise<Promotion | null> {
    if (head === null || head === request.expectedTargetSha) return head === request.sha ? { to: request.to, sha: head, result: 'no_op' } : null
    if (head === request.sha) return { to: request.to, sha: head, result: 'no_op' }
    if (request.strategy === 'ff_only' || request.expectedTargetSha === null) return null
    const commit = await this.client.commit(request.repository, head, options)
    const ours = commit?.parents.length === 2 && commit.parents[0] === request.expectedTargetSha && commit.parents[1] === request.sha
    return ours ? { to: request.to, sha: head, result: 'merge_commit' } : null
  }

  async #create(request: PromotionRequest, base: BranchName, target: BranchName, options: GitCallOptions): Promise<Promotion> {
    const outcome = await this.client.createBranch(request.repository, { base, target, verified: this.signing?.verifyAtTarget }, options)
    if ('conflict' in outcome) {
      const head = await this.branchHead(request.repository, target, options)
      if (head === request.sha) return { to: request.to, sha: head, result: 'no_op' }
      if (head !== null) throw movedTarget(request, head)
      const access = await this.readAccess(request.repository, { ephemeral: false })
      const { refs } = await lsRemote(this.name, access, refsInTheWay(request.to), options)
      throw branchInTheWay(request, refs) ?? movedTarget(request, head)
    }
    // A create may move a branch that came to be meanwhile, and what it starts from may have moved: what was made is looked at.
    const now = outcome.sha ?? (await this.branchHead(request.repository, target, options))
    if (now !== request.sha) throw movedTarget(request, now)
    return { to: request.to, sha: now, result: 'created' }
  }

  #conflict(request: PromotionRequest, conflict: Conflict): Error {
    // The host gave up for its own reasons; nothing of ours is in the way.
    if (conflict.type === 'repo_changed') {
      return new InfrastructureError({ kind: 'transient', owner: 'git-repository', source: this.name, message: `${this.name}: promoting to "${request.to}" met another change of the repository` })
    }
    const paths = conflict.paths.length === 0 ? '' : ` in ${conflict.paths.slice(0, 10).join(', ')}`
    return new PromotionConflictError(
      `promote.to: "${request.branch}" can’t be promoted to "${request.to}" (${request.strategy}): ${conflict.message}${paths}; the work stays on its branch`,
    )
  }

  async #commit(repository: string, sha: string, options: GitCallOptions): Promise<ResolvedRef> {
    const commit = await this.client.commit(repository, sha, options)
    if (commit?.sha.startsWith(sha) !== true) throw this.#invalid(`ref: commit ${sha} is not in "${repository}"`)
    return { ref: null, sha: commit.sha }
  }

  async #access(
    repository: string,
    ephemeral: boolean,
    scopes: readonly TokenScope[],
    ttlSeconds: number | undefined,
    refs?: readonly RefPolicy[],
  ): Promise<GitAccess> {
    const minted = await this.#minter.mint({ repository: this.#checked(repository), scopes, ttlSeconds, refs })
    const url = `${this.#storageUrl}/${repository}`
    return { url: `${url}${ephemeral ? '+ephemeral' : ''}.git`, lfsUrl: `${url}.git/info/lfs`, username: 't', ...minted }
  }

  #checked(repository: string): string {
    const problem = repositoryProblem(repository)
    if (problem !== undefined) throw this.#invalid(`repository: "${repository}" ${problem}`)
    return repository
  }

  #checkedBranch(branch: string): string {
    const problem = branchNameProblem(branch)
    if (problem !== undefined) throw this.#invalid(`branch: "${branch}" ${problem}`)
    return branch
  }

  #invalid(message: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', owner: 'job', source: this.name, message })
  }
}
