import { z } from 'zod'
import { InfrastructureError, PromotionConflictError } from '../job/errors.js'
import { branchNameProblem, repositoryProblem } from '../job/names.js'
import type { Promotion } from '../job/result.js'
import { parseChangedFiles } from './changed-files.js'
import type { AccessOptions, BranchName, DiffAnswer, DiffRequest, GitAccess, GitCallOptions, GitHost, PromotionRequest, ResolvedRef } from './host.js'
import { filePatches, hunksOf, mostPatchBytes } from './hunks.js'
import { lsRemote, TooMuchToWorkOutError } from './ls-remote.js'
import { defaultTokenTtlSeconds } from './mint.js'
import { createForge, forgeAt, openPullRequest } from './pull-requests/open.js'
import type { ForgeKind } from './pull-requests/pull-requests.js'
import { checkProvenance, writeProvenance } from './provenance-note.js'
import { branchInTheWay, candidateRefs, maxDiffPaths, movedTarget, noRepository, refsInTheWay, switchyardIdentity, type Identity } from './rules.js'
import { checkCommitSignature, signBranch } from './sign-branch.js'
import type { ProvenanceCheck, SignatureCheck, Signed, SigningOptions, SignRequest } from './signature.js'
import { publicKeyOf, withSigningKey } from './signing.js'
import { TemporaryRepository } from './temporary-repository.js'
import { baseUrl, hostWithPort } from './url.js'

// A line break would end the credential helper's answer early.
const credential = z.string().min(1).regex(/^[^\u0000-\u001f\u007f]+$/)
const tokenAnswer = z.object({ username: credential, token: credential, expiresAtMs: z.number().positive().optional() })
export type HttpsToken = z.output<typeof tokenAnswer>

/**
 * Gives a token for one repository. Give out the shortest-lived and narrowest one that the host can make: a sandbox gets it
 * for the seconds of a fetch (`read`) or of a push (`write`).
 */
export type TokenCallback = (repository: string, access: 'read' | 'write') => Promise<HttpsToken>

export interface HttpsGitHostOptions {
  /** For messages. Default `git`. */
  readonly name?: string | undefined
  /** Base of the git URLs: `https://github.com`; a repository is `<url>/<id>.git`. */
  readonly url: string
  readonly token: TokenCallback
  /** It gives one token for every repository, so that `check` can try it. Default false. */
  readonly sharedToken?: boolean | undefined
  /** Who makes merge commits. */
  readonly mergeAuthor?: Identity | undefined
  /** How the commits of jobs, and merge commits, are signed. Default: not at all. */
  readonly signing?: SigningOptions | undefined
  /** What pull requests are opened with. Left out: known for github.com, gitlab.com and bitbucket.org, and no pull requests elsewhere. */
  readonly api?: HttpsHostApi | undefined
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** A host's own API, beside git. */
export interface HttpsHostApi {
  readonly kind: ForgeKind
  /** Default: where such hosts have it. */
  readonly url?: string | undefined
  /** A key for the API alone, so that the token that pushes, which sandboxes see, need not be good for more. Default: the token that pushes. */
  readonly token?: ((repository: string) => Promise<HttpsToken>) | undefined
}

/** How long a token callback may take, in milliseconds. */
const tokenTimeoutMs = 30_000
const comparison = ['diff-tree', '-r', '--no-ext-diff', '--no-textconv']

function nothingIfTooMuch(error: unknown): null {
  if (error instanceof TooMuchToWorkOutError) return null
  throw error
}

/**
 * Any git host over HTTPS. Job branches are ordinary branches. What Code Storage's API does is done here with git, in a
 * bare repository of the consumer that lives as long as the call: it holds commits only, unless a merge needs the files.
 */
export class HttpsGitHost implements GitHost {
  readonly name: string
  readonly hosts: readonly string[]
  readonly ephemeral = false
  readonly signing: SigningOptions | null
  readonly openPullRequest: GitHost['openPullRequest']
  readonly #url: string
  readonly #token: TokenCallback
  readonly #sharedToken: boolean
  readonly #mergeAuthor: Identity
  readonly #now: () => number

  /** @throws InvalidInputError when the URL can't be used. */
  constructor(options: HttpsGitHostOptions) {
    this.name = options.name ?? 'git'
    this.#url = baseUrl('url', options.url)
    this.hosts = [hostWithPort(this.#url)]
    this.#token = options.token
    this.#sharedToken = options.sharedToken ?? false
    this.#mergeAuthor = options.mergeAuthor ?? switchyardIdentity
    this.signing = options.signing ?? null
    this.#now = options.now ?? Date.now
    const forge = forgeAt(this.#url, options.api)
    if (forge !== null) this.openPullRequest = this.#pullRequests(forge, options.api?.token)
  }

  #pullRequests({ kind, url }: { readonly kind: ForgeKind; readonly url: string }, token: HttpsHostApi['token']): NonNullable<GitHost['openPullRequest']> {
    const forge = createForge(kind, {
      source: this.name,
      url: baseUrl('api.url', url),
      authorize: async (repository) => {
        const key = token === undefined ? await this.#access(repository, 'write') : await this.#given(repository, 'API', () => token(repository))
        // Bitbucket's access tokens are bearers; its app passwords and API tokens go with a name.
        const bearer = kind !== 'bitbucket' || key.username === 'x-token-auth'
        return { authorization: bearer ? `Bearer ${key.token}` : `Basic ${Buffer.from(`${key.username}:${key.token}`).toString('base64')}` }
      },
      now: this.#now,
    })
    return async (request, options, beforeOpen) => {
      const problem = repositoryProblem(request.repository)
      if (problem !== undefined) throw this.#invalid(`repository: "${request.repository}" ${problem}`)
      return openPullRequest(this.name, forge, request, options, beforeOpen)
    }
  }

  /**
   * Asks for a repository that does not exist: whatever the host says to that, it is there. A token for everything is tried with it: one that
   * is not known is answered with a 401, and not with "no such repository" or a 403. Other tokens are for one repository each.
   */
  async check(options: GitCallOptions): Promise<readonly string[]> {
    if (this.signing !== null) await publicKeyOf(this.name, this.signing)
    const shared = this.#sharedToken
    const access = shared ? await this.#access(noRepository, 'read') : { url: `${this.#url}/${noRepository}.git`, username: 'nobody', token: 'none' }
    await lsRemote(this.name, access, ['HEAD'], options).catch((error: unknown) => {
      if (!(error instanceof InfrastructureError) || !['invalid', 'auth'].includes(error.kind)) throw error
      if (shared && error.kind === 'auth' && /Authentication failed|\b401\b/.test(error.message)) throw error.with({ owner: 'consumer-keys' })
    })
    return shared ? [] : ['only that the host answers was checked: its credentials are for one repository each']
  }

  async resolve(repository: string, ref: string | null, options: GitCallOptions): Promise<ResolvedRef> {
    const access = await this.#access(repository, 'read')
    if (ref !== null && /^[0-9a-f]{40}$/.test(ref)) return this.#commit(repository, access, ref, options)
    const candidates = ref === null ? ['HEAD'] : candidateRefs(ref)
    // HEAD is always asked for: a repository that does not exist and a ref that is not there read differently then.
    const { refs, headRef } = await lsRemote(this.name, access, [...new Set([...candidates, 'HEAD'])], options)
    for (const candidate of candidates) {
      const sha = refs.get(candidate)
      if (sha !== undefined) return { ref: candidate === 'HEAD' ? headRef : candidate, sha }
    }
    if (ref === null) throw this.#invalid(`repository "${repository}" has no commit on its default branch; push one first`)
    const hint = /^[0-9a-f]{7,39}$/.test(ref) ? ' (a commit needs its full sha at this host)' : ''
    throw this.#invalid(`ref: "${ref}" is neither a branch nor a tag of "${repository}"${hint}`)
  }

  async branchHead(repository: string, branch: BranchName, options: GitCallOptions): Promise<string | null> {
    const ref = this.#branchRef(branch.name)
    const access = await this.#access(repository, 'read')
    return (await lsRemote(this.name, access, [ref], options)).refs.get(ref) ?? null
  }

  async readAccess(repository: string, options: AccessOptions & { readonly ephemeral: boolean }): Promise<GitAccess> {
    return this.#access(repository, 'read', options.ttlSeconds)
  }

  /** The host's token may allow more than the one branch: what it allows is the callback's choice. */
  async writeAccess(repository: string, options: AccessOptions & { readonly branch: string }): Promise<GitAccess> {
    this.#branchRef(options.branch)
    return this.#access(repository, 'write', options.ttlSeconds)
  }

  async sign(repository: string, request: SignRequest, options: GitCallOptions, beforePush: (signed: Signed) => Promise<void>): Promise<Signed> {
    if (this.signing === null) throw new Error('git.signing is not configured')
    this.#branchRef(request.branch)
    const [read, write] = await Promise.all([this.#access(repository, 'read'), this.#access(repository, 'write')])
    return signBranch(this.name, { read, write }, this.signing, request, options, beforePush)
  }

  async checkSignature(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<SignatureCheck> {
    return checkCommitSignature(this.name, await this.#access(repository, 'read'), sha, publicKeys, options)
  }

  async attest(repository: string, note: { sha: string; statement: object }, options: GitCallOptions): Promise<void> {
    if (this.signing === null) throw new Error('git.signing is not configured')
    const [read, write] = await Promise.all([this.#access(repository, 'read'), this.#access(repository, 'write')])
    await writeProvenance(this.name, { read, write }, this.signing, note, options)
  }

  async provenance(repository: string, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<ProvenanceCheck> {
    return checkProvenance(this.name, await this.#access(repository, 'read'), sha, publicKeys, options)
  }

  async promote(request: PromotionRequest, options: GitCallOptions): Promise<Promotion> {
    const { repository, to, sha, expectedTargetSha } = request
    const source = this.#branchRef(request.branch)
    const target = this.#branchRef(to)
    const access = await this.#access(repository, 'write')
    const { refs } = await lsRemote(this.name, access, [source, target], options)
    const head = refs.get(target) ?? null
    if (head === sha) return { to, sha, result: 'no_op' }
    if (refs.get(source) !== sha) {
      throw this.#invalid(`branch "${request.branch}" of "${repository}" is at ${refs.get(source) ?? 'nothing'}, not at ${sha}; it can’t be promoted to "${to}"`)
    }
    if (head === null || expectedTargetSha === null) {
      if (head !== expectedTargetSha) throw movedTarget(request, head)
    }
    return TemporaryRepository.use(this.name, access, options, async (local) => {
      await local.fetch([`+${source}:refs/source`, ...(head === null ? [] : [`+${target}:refs/target`])], 'tree:0')
      const result = head === null || expectedTargetSha === null ? { sha, result: 'created' as const } : await this.#join(local, request, head, expectedTargetSha)
      if (result.result === 'no_op' || result.sha === head) return { to, ...result }
      if (!(await local.push(result.sha, target, expectedTargetSha))) {
        const now = await lsRemote(this.name, access, [target, ...refsInTheWay(to)], options)
        const moved = now.refs.get(target) ?? null
        throw (moved === null ? branchInTheWay(request, now.refs) : null) ?? movedTarget(request, moved)
      }
      return { to, ...result }
    })
  }

  async deleteBranch(repository: string, branch: BranchName, options: GitCallOptions): Promise<void> {
    const ref = this.#branchRef(branch.name)
    const access = await this.#access(repository, 'write')
    const { refs } = await lsRemote(this.name, access, [ref], options)
    if (!refs.has(ref)) return
    await TemporaryRepository.use(this.name, access, options, (local) => local.deleteRemote(ref))
  }

  async diff(repository: string, request: DiffRequest, options: GitCallOptions): Promise<DiffAnswer> {
    const access = await this.#access(repository, 'read')
    return TemporaryRepository.use(this.name, access, options, async (local) => {
      await local.fetch([request.baseSha, request.headSha], 'blob:none', 1)
      const cpuSeconds = local.workOutSeconds
      const list = (renames: string) => local.run([...comparison, renames, '--raw', '--numstat', '-z', request.baseSha, request.headSha], { cpuSeconds })
      let renames = '--find-renames'
      const listed = await list(renames).catch((error: unknown) => {
        if (!(error instanceof TooMuchToWorkOutError)) throw error
        return list((renames = '--no-renames'))
      })
      const files = parseChangedFiles(listed)
      const patch = request.lines === true ? await local.beginningOf([...comparison, renames, '--patch', request.baseSha, request.headSha], { maxBytes: mostPatchBytes, cpuSeconds }).catch(nothingIfTooMuch) : null
      return {
        files: files.length,
        additions: files.reduce((sum, file) => sum + file.additions, 0),
        deletions: files.reduce((sum, file) => sum + file.deletions, 0),
        paths: files.map((file) => file.path).sort().slice(0, maxDiffPaths),
        ...(patch === null ? {} : { hunks: hunksOf(filePatches(patch.text, files, patch.complete)) }),
      }
    })
  }

  /** The commit that the target is to stand at, and what it is to the target now. */
  async #join(local: TemporaryRepository, request: PromotionRequest, head: string, expected: string): Promise<Omit<Promotion, 'to'>> {
    const { sha, strategy, to } = request
    if (head !== expected) {
      // An earlier call with the same arguments merged, and its answer was lost.
      const parents = await local.parents('refs/target')
      if (parents.length === 2 && parents[0] === expected && parents[1] === sha) return { sha: head, result: 'merge_commit' }
      throw movedTarget(request, head)
    }
    if ((await local.commit('refs/target')) !== expected) throw movedTarget(request, await local.commit('refs/target'))
    if (await local.isAncestor(sha, expected)) return { sha: expected, result: 'no_op' }
    if (strategy !== 'merge' && (await local.isAncestor(expected, sha))) return { sha, result: 'fast_forward' }
    if (strategy === 'ff_only') {
      throw new PromotionConflictError(
        `promote.to: "${to}" can’t be fast-forwarded to "${request.branch}" (ff_only): it has commits of its own; rebase the work or use the strategy "merge"`,
      )
    }
    const author = this.signing?.committer ?? this.#mergeAuthor
    const merge = { message: request.message, author }
    const merged = this.signing === null ? await local.merge(expected, sha, merge) : await withSigningKey(this.name, this.signing, (key) => local.merge(expected, sha, { ...merge, key }))
    if ('conflicts' in merged) {
      throw new PromotionConflictError(
        `promote.to: "${request.branch}" can’t be merged into "${to}": conflicts in ${merged.conflicts.slice(0, 10).join(', ')}; the work stays on its branch`,
      )
    }
    return { sha: merged.sha, result: 'merge_commit' }
  }

  async #commit(repository: string, access: GitAccess, sha: string, options: GitCallOptions): Promise<ResolvedRef> {
    return TemporaryRepository.use(this.name, access, options, async (local) => {
      try {
        await local.fetch([sha], 'tree:0', 1)
      } catch (error) {
        if (error instanceof InfrastructureError && /not our ref|unadvertised object/.test(error.message)) {
          throw this.#invalid(`ref: commit ${sha} is not in "${repository}"`)
        }
        throw error
      }
      if ((await local.commit(sha)) !== sha) throw this.#invalid(`ref: ${sha} is not a commit of "${repository}"`)
      return { ref: null, sha }
    })
  }

  async #access(repository: string, kind: 'read' | 'write', ttlSeconds = defaultTokenTtlSeconds): Promise<GitAccess> {
    const problem = repositoryProblem(repository)
    if (problem !== undefined) throw this.#invalid(`repository: "${repository}" ${problem}`)
    const { username, token, expiresAtMs } = await this.#given(repository, kind, () => this.#token(repository, kind))
    const now = this.#now()
    return { url: `${this.#url}/${repository}.git`, username, token, expiresAtMs: expiresAtMs ?? now + ttlSeconds * 1000 }
  }

  async #given(repository: string, kind: 'read' | 'write' | 'API', ask: () => Promise<HttpsToken>): Promise<HttpsToken> {
    const given = tokenAnswer.safeParse(await this.#askForToken(repository, kind, ask))
    if (!given.success) throw this.#auth(`the token callback gave no usable { username, token } for ${kind} access to "${repository}"`)
    const { expiresAtMs } = given.data
    if (expiresAtMs !== undefined && expiresAtMs <= this.#now()) throw this.#auth(`the token callback gave an expired token for "${repository}"`)
    return given.data
  }

  async #askForToken(repository: string, kind: 'read' | 'write' | 'API', ask: () => Promise<HttpsToken>): Promise<unknown> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      const error = new InfrastructureError({ kind: 'transient', owner: 'git-repository', source: this.name, message: `${this.name}: the token callback did not answer within ${tokenTimeoutMs} ms` })
      timer = setTimeout(() => reject(error), tokenTimeoutMs)
    })
    try {
      return await Promise.race([ask(), late])
    } catch (error) {
      if (error instanceof InfrastructureError) throw error
      // Its message is not repeated: nobody can know that it holds no token.
      const what = error instanceof Error ? error.constructor.name : typeof error
      throw this.#auth(`the token callback threw (${what}) for ${kind} access to "${repository}"; throw an InfrastructureError to say why`)
    } finally {
      clearTimeout(timer)
    }
  }

  #branchRef(branch: string): string {
    const problem = branchNameProblem(branch)
    if (problem !== undefined) throw this.#invalid(`branch: "${branch}" ${problem}`)
    return `refs/heads/${branch}`
  }

  #invalid(message: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', owner: 'job', source: this.name, message })
  }

  /** The callback is asked for each repository by itself, so what it lacks says nothing of the others. */
  #auth(message: string): InfrastructureError {
    return new InfrastructureError({ kind: 'auth', owner: 'git-repository', source: this.name, message: `${this.name}: ${message}` })
  }
}
