import type { z } from 'zod'
import { InfrastructureError } from '../job/errors.js'
import { cutText } from '../job/harmless-text.js'
import { struckOut } from '../job/struck-out.js'
import * as answers from './code-storage-answers.js'
import { fetchFailure, sortHttpFailure, type HttpFailure } from './failures.js'
import type { BranchName, GitCallOptions } from './host.js'
import { onlyBranch, onlyBranchAnywhere, type RefPolicy, type TokenMinter, type TokenScope } from './mint.js'

/** A target that moved or conflicts. */
export interface Conflict {
  readonly message: string
  /** `merge_conflict`, `target_moved` or `repo_changed`, where the host says so. */
  readonly type: string | undefined
  readonly paths: readonly string[]
}

export type MergeOutcome = { readonly merged: z.output<typeof answers.mergeAnswer> } | { readonly conflict: Conflict }
export type BranchOutcome = { readonly sha: string | null } | { readonly conflict: Conflict }

/**
 * Code Storage's API has two addresses: `repos` is `/api/repos/{name}/…`, which its maker prefers, and `v1` is `/api/v1/…`, which its
 * released SDKs call.
 */
export const apiPaths = ['v1', 'repos'] as const
export type ApiPaths = (typeof apiPaths)[number]

/** The names of fields at `/api/repos`, for those that have another at `/api/v1`. */
const currentNames = new Map([
  ['sha', 'ref'],
  ['baseSha', 'base_ref'],
  ['gitApplyCompatible', 'git_apply_compatible'],
  ['source_branch', 'source_ref'],
  ['name', 'target_branch'],
])

export interface CodeStorageClientOptions {
  /** For messages. */
  readonly name: string
  /** Base of the API, to which `/api/…` is added. */
  readonly apiUrl: string
  /** Which of its addresses are called. Default `v1`. */
  readonly apiPaths?: ApiPaths | undefined
  readonly minter: TokenMinter
  /** Default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch | undefined
  /** Milliseconds since 1970, for `Retry-After` dates. */
  readonly now?: (() => number) | undefined
}

interface Call {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly repository: string
  readonly scope: TokenScope
  readonly refs?: readonly RefPolicy[]
  readonly query?: Readonly<Record<string, string>>
  readonly body?: Readonly<Record<string, unknown>>
  /** Statuses besides 2xx that the caller reads itself. */
  readonly allowed?: readonly number[]
}

/** Answers are read up to here, in bytes. */
const maxAnswerBytes = 64 * 1024 * 1024

/**
 * Code Storage's HTTP API, as far as Switchyard needs it. Every call mints a token for exactly what it does, is bounded by
 * `timeoutMs` and the signal, and throws InfrastructureError as `sortHttpFailure` sorts it, or the signal's own reason.
 */
export class CodeStorageClient {
  readonly #name: string
  readonly #base: string
  readonly #paths: ApiPaths
  readonly #minter: TokenMinter
  readonly #fetch: typeof globalThis.fetch
  readonly #now: () => number

  constructor(options: CodeStorageClientOptions) {
    this.#name = options.name
    this.#base = `${options.apiUrl.replace(/\/+$/, '')}/api/`
    this.#paths = options.apiPaths ?? 'v1'
    this.#minter = options.minter
    this.#fetch = options.fetch ?? globalThis.fetch
    this.#now = options.now ?? Date.now
  }

  /** @returns null when there is no such repository. */
  async repository(repository: string, options: GitCallOptions): Promise<{ readonly defaultBranch: string } | null> {
    const answer = await this.#call({ method: 'GET', path: 'repo', repository, scope: 'git:read', allowed: [404] }, options)
    return answer.status === 404 ? null : { defaultBranch: this.#read(answers.repositoryAnswer, answer, 'repo').default_branch }
  }

  /** @returns false when there is one of that id already. */
  async createRepository(repository: string, defaultBranch: string, options: GitCallOptions): Promise<boolean> {
    const body = { default_branch: defaultBranch }
    const answer = await this.#call({ method: 'POST', path: 'repos', repository, scope: 'repo:write', body, allowed: [409] }, options)
    return answer.status !== 409
  }

  /** @returns false when there was none. */
  async deleteRepository(repository: string, options: GitCallOptions): Promise<boolean> {
    const answer = await this.#call({ method: 'DELETE', path: 'repos/delete', repository, scope: 'repo:write', allowed: [404, 409] }, options)
    return answer.status !== 404 && answer.status !== 409
  }

  /** Every branch of a namespace, page by page; `timeoutMs` is for each page. */
  async *branches(repository: string, ephemeral: boolean, options: GitCallOptions, pageSize = 100): AsyncGenerator<{ name: string; sha: string }> {
    let cursor: string | undefined
    do {
      const query = { limit: String(pageSize), ephemeral: String(ephemeral), ...(cursor === undefined ? {} : { cursor }) }
      const answer = await this.#call({ method: 'GET', path: 'repos/branches', repository, scope: 'git:read', query }, options)
      const page = this.#read(answers.branchesAnswer, answer, 'repos/branches')
      for (const branch of page.branches) yield { name: branch.name, sha: branch.head_sha }
      cursor = page.has_more ? (page.next_cursor ?? undefined) : undefined
    } while (cursor !== undefined)
  }

  /** Creates a branch at another one's head. */
  async createBranch(repository: string, request: { readonly base: BranchName; readonly target: BranchName; readonly verified?: boolean | undefined }, options: GitCallOptions): Promise<BranchOutcome> {
    const answer = await this.#call(
      {
        method: 'POST',
        path: 'repos/branches/create',
        repository,
        scope: 'git:write',
        refs: onlyBranch(request.target.name, request.verified),
        body: {
          base_branch: request.base.name,
          base_is_ephemeral: request.base.ephemeral,
          target_branch: request.target.name,
          target_is_ephemeral: request.target.ephemeral,
        },
        allowed: [409, 412],
      },
      options,
    )
    if (answer.status >= 400) return { conflict: this.#conflict(answer) }
    return { sha: this.#read(answers.createdBranchAnswer, answer, 'repos/branches/create').commit_sha ?? null }
  }

  /** @returns false when there was none. */
  async deleteBranch(repository: string, branch: BranchName, options: GitCallOptions): Promise<boolean> {
    const body = { name: branch.name, ephemeral: branch.ephemeral }
    const refs = onlyBranchAnywhere(branch.name)
    const answer = await this.#call({ method: 'DELETE', path: 'repos/branches', repository, scope: 'git:write', refs, body, allowed: [404] }, options)
    return answer.status !== 404
  }

  /** Merges a branch into another that must stand at `expectedTargetSha`. */
  async merge(
    repository: string,
    request: {
      readonly source: BranchName
      readonly target: BranchName
      readonly strategy: 'ff_only' | 'ff_prefer' | 'merge'
      readonly expectedTargetSha: string
      /** Only commits with signatures that the host knows may come in. */
      readonly verified?: boolean | undefined
      readonly message: string
      readonly author: { readonly name: string; readonly email: string }
    },
    options: GitCallOptions,
  ): Promise<MergeOutcome> {
    const answer = await this.#call(
      {
        method: 'POST',
        path: 'repos/merge',
        repository,
        scope: 'git:write',
        refs: onlyBranch(request.target.name, request.verified),
        body: {
          source_branch: request.source.name,
          source_is_ephemeral: request.source.ephemeral,
          target_branch: request.target.name,
          target_is_ephemeral: request.target.ephemeral,
          strategy: request.strategy,
          expected_target_sha: request.expectedTargetSha,
          commit_message: request.message,
          author: request.author,
        },
        allowed: [409, 412],
      },
      options,
    )
    if (answer.status >= 400) return { conflict: this.#conflict(answer) }
    return { merged: this.#read(answers.mergeAnswer, answer, 'repos/merge') }
  }

  /** What changed between two commits, in white space too. */
  async diff(repository: string, request: { readonly baseSha: string; readonly headSha: string }, options: GitCallOptions) {
    const query = { sha: request.headSha, baseSha: request.baseSha, gitApplyCompatible: 'true' }
    const answer = await this.#call({ method: 'GET', path: 'repos/diff', repository, scope: 'git:read', query }, options)
    return this.#read(answers.diffAnswer, answer, 'repos/diff')
  }

  /** Looks a commit up. @returns null when there is none. */
  async commit(repository: string, sha: string, options: GitCallOptions): Promise<{ readonly sha: string; readonly parents: readonly string[] } | null> {
    const answer = await this.#call({ method: 'GET', path: 'repos/commit', repository, scope: 'git:read', query: { sha }, allowed: [404] }, options)
    if (answer.status === 404) return null
    const { commit } = this.#read(answers.commitAnswer, answer, 'repos/commit')
    return { sha: commit.sha, parents: commit.parent_shas }
  }

  async #call(call: Call, options: GitCallOptions): Promise<Answer> {
    options.signal?.throwIfAborted()
    const { token } = await this.#minter.mint({ repository: call.repository, scopes: [call.scope], refs: call.refs })
    const { path, query, body: sent } = addressed(call, this.#paths)
    const timeout = AbortSignal.timeout(options.timeoutMs)
    const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout])
    const what = `${call.method} ${call.path}`
    try {
      const response = await this.#fetch(`${this.#base}${path}${query}`, {
        method: call.method,
        headers: {
          authorization: `Bearer ${token}`,
          accept: 'application/json',
          ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(sent === undefined ? {} : { body: sent }),
        redirect: 'error',
        signal,
      })
      const text = await readBounded(response)
      const body = parseJson(response.ok ? text : struckOut(text, [token]))
      if (response.ok || call.allowed?.includes(response.status) === true) return { status: response.status, body }
      const failure: HttpFailure = { kind: 'status', status: response.status, retryAfter: response.headers.get('retry-after'), nowMs: this.#now() }
      throw this.#failed(failure, `${what} for "${call.repository}" answered ${response.status}${reason(body)}`)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof InfrastructureError) throw error
      if (error instanceof AnswerTooLongError) {
        throw new InfrastructureError({ kind: 'invalid', owner: 'git-repository', source: this.#name, message: `${this.#name}: ${what} for "${call.repository}" answered more than ${maxAnswerBytes} bytes` })
      }
      const failure: HttpFailure = timeout.aborted ? { kind: 'no-answer', cause: 'timeout' } : fetchFailure(error)
      const cause = timeout.aborted ? `no answer within ${options.timeoutMs} ms` : causeOf(error)
      throw this.#failed(failure, `${what} for "${call.repository}" failed: ${cause}`)
    }
  }

  #failed(failure: HttpFailure, message: string): InfrastructureError {
    return new InfrastructureError({ ...sortHttpFailure(failure), source: this.#name, message: `${this.#name}: ${message}` })
  }

  #read<Schema extends z.ZodType>(schema: Schema, answer: Answer, path: string): z.output<Schema> {
    const parsed = schema.safeParse(answer.body)
    if (parsed.success) return parsed.data
    const field = parsed.error.issues[0]?.path.join('.') ?? ''
    throw this.#failed({ kind: 'unexpected-body' }, `${path} answered ${answer.status} with a body that is not what its documentation says (field "${field}")`)
  }

  #conflict(answer: Answer): Conflict {
    const body = this.#read(answers.conflictAnswer, { ...answer, body: answer.body ?? {} }, 'conflict')
    return { message: cutText(body.error, 300), type: body.conflict_type, paths: body.conflict_paths }
  }
}

/** Where a call goes, and what with. Paths are written as those of `/api/v1`. */
function addressed({ path, repository, query = {}, body }: Call, paths: ApiPaths): { path: string; query: string; body: string | undefined } {
  const fields = <Value>(values: Readonly<Record<string, Value>>) =>
    paths === 'v1' ? values : Object.fromEntries(Object.entries(values).map(([name, value]) => [currentNames.get(name) ?? name, value]))
  const search = new URLSearchParams(fields(query)).toString()
  const name = `repos/${encodeURIComponent(repository)}`
  const named = path === 'repos' ? path : path === 'repo' || path === 'repos/delete' ? name : path.replace(/^repos/, name)
  return { path: paths === 'v1' ? `v1/${path}` : named, query: search === '' ? '' : `?${search}`, body: body === undefined ? undefined : JSON.stringify(fields(body)) }
}

interface Answer {
  readonly status: number
  readonly body: unknown
}

class AnswerTooLongError extends Error {}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  if (response.body === null) return ''
  // Node's ReadableStream can be iterated; its type does not say of what.
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    bytes += chunk.length
    if (bytes > maxAnswerBytes) throw new AnswerTooLongError()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parseJson(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch {
    // A proxy's page, for instance: what needs a body says so when it reads it.
    return undefined
  }
}

function reason(body: unknown): string {
  const parsed = answers.errorAnswer.safeParse(body)
  return parsed.success ? `: ${cutText(parsed.data.error.replaceAll(/\s+/g, ' '), 300)}` : ''
}

function causeOf(error: unknown): string {
  let text = String(error)
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) text = cause.message === '' ? cause.name : cause.message
  return cutText(text, 300)
}
