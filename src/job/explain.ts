import type { z } from 'zod'
import { InvalidInputError } from './errors.js'

/**
 * Validates `value` against `schema`.
 * @throws InvalidInputError with one sentence for every problem, each naming the field.
 */
export function parseInput<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const problems = [...new Set(parsed.error.issues.flatMap((issue) => sentences(issue, what)))]
  throw new InvalidInputError(problems[0] ?? `${what} is not valid`, problems)
}

type Issue = z.core.$ZodIssue

function sentences(issue: Issue, what: string, prefix: PropertyKey[] = []): string[] {
  const path = [...prefix, ...issue.path]
  const field = path.length === 0 ? what : fieldName(path)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${fieldName([...path, key])}: is not a known field of ${field}; remove it or check its spelling`)
  }
  if (issue.code === 'invalid_union') {
    // The branch that got furthest is the one that the writer meant: an object against {run: …}, not against a string.
    const branches = issue.errors.filter((branch) => branch.some((inner) => !(inner.code === 'invalid_type' && inner.path.length === 0)))
    const best = branches[0]
    if (best !== undefined) return best.flatMap((inner) => sentences(inner, what, path))
  }
  return [`${field}: ${issue.message}`]
}

function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('')
}
