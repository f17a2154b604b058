import { z } from 'zod'

/**
 * Zod's schemas as OpenAPI 3.1 has them: JSON Schema, without what generators of clients stumble over. Both sides are told apart, since a field with a
 * default may be left out of a request and is always in a response. What may come to have further values is a plain text in responses, so
 * that a client of today reads a deployment of tomorrow.
 */
export type JsonSchema = Readonly<Record<string, unknown>>

/** @param io `input` for requests, `output` for responses. */
export function openApiSchema(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _schema, $defs: _defs, ...rest } = z.toJSONSchema(schema, { io, target: 'draft-2020-12', unrepresentable: 'any' }) as Record<string, unknown>
  return made(rest, io) as JsonSchema
}

function made(part: unknown, io: 'input' | 'output'): unknown {
  if (Array.isArray(part)) return part.map((inner) => made(inner, io))
  if (typeof part !== 'object' || part === null) return part
  const schema = part as Record<string, unknown>
  // Of JSON of any shape, which is defined by itself.
  if (typeof schema['$ref'] === 'string' && schema['$ref'].startsWith('#/$defs/')) return {}
  const kept = Object.entries(schema).filter(([name, value]) => {
    // Classes of characters by name are JavaScript's alone.
    if (name === 'pattern') return schema['format'] !== 'date-time' && !String(value).includes('\\p{')
    // In a response it is always there; of objects and lists generators can't make one.
    if (name === 'default') return io === 'input' && typeof value !== 'object'
    if (name === 'minimum' || name === 'maximum') return Math.abs(Number(value)) !== Number.MAX_SAFE_INTEGER
    if (name === 'enum') return io === 'input'
    // Later releases add fields, which needn't be said of objects whose fields are told.
    if (name === 'additionalProperties') return io === 'input' || (typeof value === 'object' && (Object.keys(value as object).length > 0 || schema['properties'] === undefined))
    if (name === 'propertyNames') return io === 'input' && Object.keys(value as object).some((key) => key !== 'type')
    return true
  })
  const plain = Object.fromEntries(kept.map(([name, value]) => [name, name === 'enum' || name === 'required' || name === 'default' || name === 'const' ? value : made(value, io)]))
  if (io === 'output' && Array.isArray(schema['enum'])) {
    const values = `Such as ${schema['enum'].map((value) => `\`${String(value)}\``).join(', ')}; later releases may add others.`
    return { ...plain, type: plain['type'] ?? 'string', description: typeof plain['description'] === 'string' ? `${plain['description']} ${values}` : values }
  }
  const types = [plain['type']].flat()
  if (types.includes('integer')) return { ...plain, format: 'int64' }
  if (types.includes('number')) return { ...plain, format: 'double' }
  const nullable = Array.isArray(plain['anyOf']) ? withNull(plain) : undefined
  return nullable ?? plain
}

/** `anyOf: [{ type: 'string' }, { type: 'null' }]` as `type: ['string', 'null']`, which more generators know. */
function withNull(schema: Record<string, unknown>): Record<string, unknown> | undefined {
  const { anyOf, ...rest } = schema as { anyOf: Record<string, unknown>[] }
  const [first, second] = anyOf
  if (anyOf.length !== 2 || first === undefined || second?.['type'] !== 'null') return undefined
  return typeof first['type'] === 'string' && ['string', 'integer', 'number', 'boolean'].includes(first['type']) ? { ...first, ...rest, type: [first['type'], 'null'] } : undefined
}
