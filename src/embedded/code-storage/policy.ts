import { z } from 'zod'

/** The `refs` and `ops` claims of a token: an ordered list of rules, and the older operations for the whole repository. */
export const policyClaimsSchema = z.object({
  refs: z.array(z.tuple([z.string().min(1), z.array(z.string())])).optional(),
  ops: z.array(z.string()).optional(),
})
export type PolicyClaims = z.output<typeof policyClaimsSchema>

/** A rule: for which refs, and what it forbids on them. */
export type Rule = readonly [pattern: string, operations: readonly string[]]

/**
 * A token's rules in their order; the first that matches decides. The older `ops` are folded into the first rule for `*`,
 * or stand behind the others as one: a rule for a ref of its own is not widened by them.
 */
export function rulesOf({ refs = [], ops = [] }: PolicyClaims): readonly Rule[] {
  const rules: Rule[] = refs.map(([pattern, operations]) => [normalizePattern(pattern), operations])
  if (ops.length === 0) return rules
  const all = rules.findIndex(([pattern]) => pattern === '*')
  if (all === -1) return [...rules, ['*', ops]]
  return rules.map((rule, index) => (index === all ? ['*', [...new Set([...rule[1], ...ops])]] : rule))
}

/** A pattern as it is matched: short names are branches; `*` and `HEAD` stay as they are. */
function normalizePattern(pattern: string): string {
  return pattern === '*' || pattern === 'HEAD' || pattern.startsWith('refs/') ? pattern : `refs/heads/${pattern}`
}

function matches(pattern: string, ref: string): boolean {
  if (pattern === '*') return true
  // Only a single star at the end, behind a slash, is a glob.
  if (pattern.endsWith('/*')) return ref.startsWith(pattern.slice(0, -1))
  return pattern === ref
}

/** How a ref is to be moved. `fastForward` is true for a new ref, false for a deletion. */
export interface RefChange {
  readonly ref: string
  readonly fastForward: boolean
}

/** Why a change is refused, whatever it brings; undefined when the token allows it. */
export function refusal(claims: PolicyClaims, change: RefChange): string | undefined {
  const forbidden = operationsFor(claims, change.ref)
  if (forbidden.includes('no-push')) return `denied by policy: ${change.ref} (no-push)`
  if (forbidden.includes('no-force-push') && !change.fastForward) return `denied by policy: ${change.ref} (no-force-push)`
  return undefined
}

/** Whether every commit that a change brings to a ref must be signed with a registered key. */
export function wantsSignatures(claims: PolicyClaims, ref: string): boolean {
  return operationsFor(claims, ref).includes('verify-sig')
}

function operationsFor(claims: PolicyClaims, ref: string): readonly string[] {
  return rulesOf(claims).find(([pattern]) => matches(pattern, ref))?.[1] ?? []
}

/** The same rules for the pre-receive hook: a line per rule, pattern, tab, operations with commas. */
export function hookPolicy(claims: PolicyClaims): string {
  // What could end a line or a field is in no name of a ref: such a pattern matches nothing, here as in the API.
  const rules = rulesOf(claims).filter(([pattern]) => !/[\0\n\t]/.test(pattern))
  return rules.map(([pattern, operations]) => `${pattern}\t,${operations.filter((name) => /^[\w-]+$/.test(name)).join(',')},`).join('\n')
}
