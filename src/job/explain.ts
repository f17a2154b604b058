import type { z } from 'zod'
import { InvalidInputError } from './errors.js'
import { didYouMean } from './nearest-name.js'

/**
 * Validates `value` against `schema`.
 * @throws InvalidInputError with one sentence for every problem, each naming the field.
 */
export function parseInput<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw invalidInput(parsed.error.issues, what, schema)
}

type Issue = z.core.$ZodIssue

/** More than anybody mends at a time. Whoever sends a million of them must not have a million sentences made. */
const mostProblems = 200

/** What zod found wrong, in sentences. @param schema for the names that are meant where one is not known. */
export function invalidInput(issues: readonly Issue[], what: string, schema?: z.core.$ZodType): InvalidInputError {
  const told = new Set<string>()
  for (const issue of issues) {
    for (const sentence of sentences(issue, what, schema)) told.add(sentence)
    if (told.size >= mostProblems) break
  }
  const problems = [...told].slice(0, mostProblems)
  return new InvalidInputError(problems[0] ?? `${what} is not valid`, problems)
}

/** Whether nothing is wrong but fields that are not known: what a newer release may have written. */
export function hasOnlyUnknownFields(issues: readonly Issue[]): boolean {
  return issues.every(
    (issue) => issue.code === 'unrecognized_keys' || (issue.code === 'invalid_union' && issue.errors.some((branch) => branch.length > 0 && hasOnlyUnknownFields(branch))),
  )
}

function sentences(issue: Issue, what: string, schema: z.core.$ZodType | undefined, prefix: PropertyKey[] = []): string[] {
  const path = [...prefix, ...issue.path]
  const field = path.length === 0 ? what : fieldName(path)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.slice(0, mostProblems).map((key) => `${fieldName([...path, key])}: is not a known field of ${field}${schema === undefined ? '' : didYouMean(key, knownFields(schema, path))}; remove it or check its spelling`)
  }
  if (issue.code === 'invalid_union') {
    // The branch that got furthest is the one that the writer meant: an object against {run: …}, not against a string.
    const missesAll = (inner: Issue) => inner.path.length === 0 && (inner.code === 'invalid_type' || inner.code === 'invalid_value')
    const branches = issue.errors.filter((branch) => branch.some((inner) => !missesAll(inner)))
    const best = branches.find((branch) => branch.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys')) ?? branches[0]
    if (best !== undefined) return best.flatMap((inner) => sentences(inner, what, schema, path))
  }
  return [`${field}: ${plainMessage(issue)}`]
}

/** The fields that an object at this place of a schema may have. */
function knownFields(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  const [part, ...rest] = path
  return unwrapped(schema).flatMap(({ def }) => {
    if (def.type === 'object') {
      const inner = part === undefined ? undefined : def.shape[String(part)]
      return part === undefined ? Object.keys(def.shape) : inner === undefined ? [] : knownFields(inner, rest)
    }
    if (part === undefined) return []
    if (def.type === 'array') return knownFields(def.element, rest)
    return def.type === 'record' ? knownFields(def.valueType, rest) : []
  })
}

/** What stands within defaults, choices and transformations. */
function unwrapped(schema: z.core.$ZodType): z.core.$ZodTypes['_zod'][] {
  const inside = (schema as z.core.$ZodTypes)._zod
  switch (inside.def.type) {
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'nonoptional':
    case 'readonly':
    case 'catch':
      return unwrapped(inside.def.innerType)
    case 'pipe':
      return [...unwrapped(inside.def.in), ...unwrapped(inside.def.out)]
    case 'union':
      return inside.def.options.flatMap(unwrapped)
    default:
      return [inside]
  }
}

const typeNames: Record<string, string> = {
  int: 'a whole number', number: 'a number', string: 'a text', boolean: 'true or false', array: 'a list', object: 'an object', record: 'an object',
}

/** Zod's own wording, where a schema has none, put as the sentence that all others are. */
function plainMessage(issue: Issue): string {
  const own = issue.message.startsWith('Invalid ') || issue.message.startsWith('Too ')
  if (!own) return issue.message
  if (issue.code === 'invalid_type') {
    const expected = typeNames[issue.expected] ?? issue.expected
    return issue.message.endsWith('received undefined') ? `is missing; give ${expected}` : `must be ${expected}`
  }
  if (issue.code === 'too_small') return `must be ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${unitOf(issue.origin, issue.minimum)}`
  if (issue.code === 'too_big') return `must be ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${unitOf(issue.origin, issue.maximum)}`
  if (issue.code === 'invalid_value') return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
  return issue.message
}

function unitOf(origin: string, count: number | bigint): string {
  if (origin === 'string') return ` ${Number(count) === 1 ? 'character' : 'characters'} long`
  return origin === 'array' ? ` ${Number(count) === 1 ? 'item' : 'items'} long` : ''
}

function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('')
}
