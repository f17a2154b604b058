import type { Context } from 'hono'
import { z } from 'zod'
import { ApiProblem } from './problem.js'
import type { ApiRoute } from './routes.js'
import { Refs } from './refs.js'
import type { Repository, RepositoryStore } from './repositories.js'
import type { TokenClaims, TokenVerifier } from './verify.js'

/** What the routes stand on. */
export interface ApiServices {
  readonly store: RepositoryStore
  readonly verifier: TokenVerifier
  /** Base of the git URLs, such as `http://127.0.0.1:8123`. */
  readonly storageUrl: () => string
  readonly onError: (message: string) => void
}

export interface ApiEnvironment {
  Variables: { claims: TokenClaims; route: ApiRoute }
}
export type ApiContext = Context<ApiEnvironment>

/** The longest body of a call, in bytes, that is not one of the two that stream a commit. */
export const maxBodyBytes = 1024 * 1024

/** @throws ApiProblem 403 when the token lacks the scope. `git:write` includes `git:read`. */
export function requireScope(claims: TokenClaims, scope: 'git:read' | 'git:write' | 'repo:write' | 'org:read'): void {
  const allowed = claims.scopes.includes(scope) || (scope === 'git:read' && claims.scopes.includes('git:write'))
  if (!allowed) throw new ApiProblem(403, `the token lacks the scope ${scope}`)
}

/**
 * The id of the repository that a call is about. It stands in the token; a path that names one has to name the same.
 * @throws ApiProblem 403 when it names another, or the token, which is for the organisation then, names none.
 */
export function repositoryId(context: ApiContext): string {
  const { repo } = context.get('claims')
  const { repository } = context.get('route')
  if (repo === undefined) throw new ApiProblem(403, 'the token names no repository; mint one with the claim "repo"')
  if (repository !== undefined && repository !== repo) throw new ApiProblem(403, 'the token is for another repository than the path')
  return repo
}

/** The token's repository. @throws ApiProblem 403 without the scope or for another one, 404 when there is no such repository. */
export async function repositoryOf(
  context: ApiContext,
  services: ApiServices,
  scope: 'git:read' | 'git:write' | 'repo:write' | 'any',
): Promise<{ repository: Repository; refs: Refs; claims: TokenClaims }> {
  const claims = context.get('claims')
  if (scope !== 'any') requireScope(claims, scope)
  const repository = await services.store.find(repositoryId(context))
  if (repository === null) throw new ApiProblem(404, 'repository not found')
  return { repository, refs: new Refs(services.store.git, repository), claims }
}

/** Names that the API had before, each with the one that it has now. The newer one counts where both are given. */
export type OlderNames = Readonly<Record<string, string>>

/** A JSON body against its schema. @throws ApiProblem 413 when it is too long, 400 that names the first field that is wrong. */
export async function readBody<Schema extends z.ZodType>(context: ApiContext, schema: Schema, olderNames: OlderNames = {}): Promise<z.output<Schema>> {
  const text = await boundedText(context)
  return checked(schema, text === '' ? {} : parsedJson(text, 'the body'), olderNames)
}

/** The query against a schema. Of a parameter that is given more than once the first value counts, and nobody sees another. */
export function readQuery<Schema extends z.ZodType>(context: ApiContext, schema: Schema, olderNames: OlderNames = {}): z.output<Schema> {
  const query: Record<string, string> = {}
  for (const [name, value] of new URL(context.req.url).searchParams) {
    if (!Object.hasOwn(query, name)) Object.defineProperty(query, name, { value, enumerable: true })
  }
  return checked(schema, query, olderNames)
}

/** All values of the one parameter that may be repeated in a call. */
export function queryValues(context: ApiContext, name: string): string[] {
  return new URL(context.req.url).searchParams.getAll(name)
}

/** @throws ApiProblem 400. */
export function parsedJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ApiProblem(400, `${what} is not JSON`)
  }
}

/** @throws ApiProblem 400 that names the first field that is wrong. */
export function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, olderNames: OlderNames = {}): z.output<Schema> {
  const parsed = schema.safeParse(renamed(value, olderNames))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.') ?? ''
  throw new ApiProblem(400, `${field === '' ? 'request' : field}: ${issue?.message ?? 'is not valid'}`)
}

function renamed(value: unknown, olderNames: OlderNames): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const fields = new Map(Object.entries(value))
  for (const [older, name] of Object.entries(olderNames)) {
    if (!fields.has(name) && fields.has(older)) fields.set(name, fields.get(older))
  }
  return Object.fromEntries(fields)
}

async function boundedText(context: ApiContext): Promise<string> {
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of bodyOf(context)) {
    length += piece.length
    // The rest is not read; the server drops it.
    if (length > maxBodyBytes) throw new ApiProblem(413, `the body is longer than ${maxBodyBytes} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

/** The body as it comes. */
export function bodyOf(context: ApiContext): AsyncIterable<Uint8Array> {
  // Node's ReadableStream can be iterated; its type does not say of what.
  return (context.req.raw.body ?? []) as unknown as AsyncIterable<Uint8Array>
}

/** `true` or `false` in a query. */
export const queryFlag = z.enum(['true', 'false']).default('false').transform((text) => text === 'true')

const wholeNumber = z.string().regex(/^\d{1,15}$/, 'must be a whole number').transform(Number).refine((count) => count > 0, 'must be more than 0')

/** The size of a page: `usual` when it is left out, and never more than `most`. */
export const pageLimit = (usual = 20, most = 100) => wholeNumber.transform((count) => Math.min(count, most)).default(usual)
/** The size of a page where a list without it, and without a cursor, is given whole. */
export const optionalPageLimit = (most: number) => wholeNumber.transform((count) => Math.min(count, most)).optional()

/** Text that can be handed to git: no NUL, which ends an argument. */
export const gitText = (maxLength = 1000) => z.string().max(maxLength, `is longer than ${maxLength} characters`).regex(/^[^\0]*$/, 'holds a NUL')
/** Who made a commit. Git drops what would end a name or an address, and refuses one of nothing else. */
export const identity = z.object({
  name: gitText().regex(/[^\u0000-\u0020<>.,:;"'\\]/, 'has nothing that git takes as a name').regex(/^[^<>\r\n]*$/, 'holds "<", ">" or a line break'),
  email: gitText().regex(/[^\u0000-\u0020<>.,:;"'\\]/, 'has nothing that git takes as an address').regex(/^[^<>\r\n]*$/, 'holds "<", ">" or a line break'),
})
export type Identity = z.output<typeof identity>
export const fullSha = z.string().regex(/^[0-9a-f]{40}$/, 'is not a full sha')

/** Git's variables for who made a commit. */
export function identityVariables(author: Identity, committer: Identity = author): Record<string, string> {
  return {
    GIT_AUTHOR_NAME: author.name,
    GIT_AUTHOR_EMAIL: author.email,
    GIT_COMMITTER_NAME: committer.name,
    GIT_COMMITTER_EMAIL: committer.email,
  }
}

/** Cuts a page out of a sorted list; the cursor is the key of the last item of the page before. */
export function pageOf<Item>(
  items: readonly Item[],
  key: (item: Item) => string,
  { cursor, limit }: { cursor?: string | undefined; limit: number },
): { page: Item[]; next_cursor: string | null; has_more: boolean } {
  const rest = cursor === undefined || cursor === '' ? items : items.filter((item) => key(item) > cursor)
  const page = rest.slice(0, limit)
  const last = page.at(-1)
  const hasMore = rest.length > limit
  return { page, has_more: hasMore, next_cursor: hasMore && last !== undefined ? key(last) : null }
}

/**
 * A path inside the repository, without slashes at its ends.
 * @throws ApiProblem 404 for one that climbs out, as nothing is there.
 */
export function repositoryPath(path: string): string {
  const trimmed = path.replace(/^\/+|\/+$/g, '')
  if (trimmed.includes('\0') || trimmed.length > 4096 || trimmed.split('/').some((part) => part === '..' || part === '.')) {
    throw new ApiProblem(404, `path: "${path.slice(0, 200)}" is not inside the repository`)
  }
  return trimmed
}

/**
 * A file's path inside the repository, as `repositoryPath` gives it.
 * @throws ApiProblem 404 for one of slashes alone: that is the repository's own folder.
 */
export function filePath(path: string): string {
  const trimmed = repositoryPath(path)
  if (trimmed === '') throw new ApiProblem(404, `path: "${path.slice(0, 200)}" is not a file`)
  return trimmed
}
