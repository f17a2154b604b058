import type { Context } from 'hono'
import { z } from 'zod'
import { ApiProblem } from './problem.js'
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
  Variables: { claims: TokenClaims }
}
export type ApiContext = Context<ApiEnvironment>

/** @throws ApiProblem 403 when the token lacks the scope. `git:write` includes `git:read`. */
export function requireScope(claims: TokenClaims, scope: 'git:read' | 'git:write' | 'repo:write' | 'org:read'): void {
  const allowed = claims.scopes.includes(scope) || (scope === 'git:read' && claims.scopes.includes('git:write'))
  if (!allowed) throw new ApiProblem(403, `the token lacks the scope ${scope}`)
}

/** The token's repository. @throws ApiProblem 403 without the scope, 404 when there is no such repository. */
export async function repositoryOf(
  context: ApiContext,
  services: ApiServices,
  scope: 'git:read' | 'git:write' | 'repo:write',
): Promise<{ repository: Repository; refs: Refs; claims: TokenClaims }> {
  const claims = context.get('claims')
  requireScope(claims, scope)
  const repository = await services.store.find(claims.repo)
  if (repository === null) throw new ApiProblem(404, 'repository not found')
  return { repository, refs: new Refs(services.store.git, repository), claims }
}

/** A JSON body against its schema. @throws ApiProblem 400 that names the first field that is wrong. */
export async function readBody<Schema extends z.ZodType>(context: ApiContext, schema: Schema): Promise<z.output<Schema>> {
  const text = await context.req.text()
  let value: unknown
  try {
    value = text === '' ? {} : JSON.parse(text)
  } catch {
    throw new ApiProblem(400, 'the body is not JSON')
  }
  return checked(schema, value)
}

/** The query against a schema; repeated parameters are not looked at. */
export function readQuery<Schema extends z.ZodType>(context: ApiContext, schema: Schema): z.output<Schema> {
  return checked(schema, context.req.query())
}

function checked<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new ApiProblem(400, `${issue?.path.join('.') ?? 'request'}: ${issue?.message ?? 'is not valid'}`)
}

/** `true` or `false` in a query. */
export const queryFlag = z.enum(['true', 'false']).default('false').transform((text) => text === 'true')
/** The size of a page. */
export const pageLimit = z.coerce.number().int().min(1).max(1000).default(100)

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
  if (trimmed.includes('\0') || trimmed.split('/').some((part) => part === '..' || part === '.')) {
    throw new ApiProblem(404, `path: "${path}" is not inside the repository`)
  }
  return trimmed
}
