import { z } from 'zod'

/** The `refs` and `ops` claims of a token: an ordered list of rules, and the older operations for the whole repository. */
export const policyClaimsSchema = z.object({
  refs: z.array(z.tuple([z.string().min(1), z.array(z.string())])).optional(),
  ops: z.array(z.string()).optional(),
})
export type PolicyClaims = z.output<typeof policyClaimsSchema>

/** A pattern as it is matched: short names are branches; `*` and `HEAD` stay as they are. */
function normalizePattern(pattern: string): string {
  return pattern === '*' || pattern === 'HEAD' || pattern.startsWith('refs/') ? pattern : `refs/heads/${pattern}`
}

function matches(pattern: string, ref: string): boolean {
  const normalized = normalizePattern(pattern)
  if (normalized === '*') return true
  // Only a single star at the end, behind a slash, is a glob.
  if (normalized.endsWith('/*')) return ref.startsWith(normalized.slice(0, -1))
  return normalized === ref
}

/** What is forbidden on a full ref: the operations of the first rule that matches, and those for the whole repository. */
function forbiddenOperations(claims: PolicyClaims, ref: string): ReadonlySet<string> {
  const first = claims.refs?.find(([pattern]) => matches(pattern, ref))
  return new Set([...(first?.[1] ?? []), ...(claims.ops ?? [])])
}

/** How a ref is to be moved. `fastForward` is true for a new ref, false for a deletion. */
export interface RefChange {
  readonly ref: string
  readonly fastForward: boolean
}

/** Why a change is refused; undefined when the token allows it. */
export function refusal(claims: PolicyClaims, change: RefChange): string | undefined {
  const forbidden = forbiddenOperations(claims, change.ref)
  if (forbidden.has('no-push')) return `denied by policy: ${change.ref} (no-push)`
  if (forbidden.has('no-force-push') && !change.fastForward) return `denied by policy: ${change.ref} (no-force-push)`
  if (forbidden.has('verify-sig')) return `denied by policy: ${change.ref} (verify-sig; the local Code Storage knows no signing keys)`
  return undefined
}

/**
 * The same rules for the pre-receive hook: a line per rule, pattern, tab, operations with commas; the operations for the
 * whole repository come first, on a line with the pattern `!`.
 */
export function hookPolicy(claims: PolicyClaims): string {
  const line = (pattern: string, operations: readonly string[]) => `${pattern}\t,${operations.join(',')},`
  return [line('!', claims.ops ?? []), ...(claims.refs ?? []).map(([pattern, operations]) => line(normalizePattern(pattern), operations))].join('\n')
}
