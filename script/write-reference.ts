// Writes docs/reference.md: every field of a job, of a result and of the configuration, out of the schemas that check them, and every command with its
// options, out of the program. A test holds the document against this.
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { z } from 'zod'
import { addCommands } from '../src/cli/all-commands.js'
import { configSchema } from '../src/config/schema.js'
import { jobResultSchema } from '../src/job/result.js'
import { jobSpecSchema } from '../src/job/spec.js'
import { codeStorageConfigSchema, httpsGitConfigSchema } from '../src/git/config.js'

/** What is read of a JSON Schema. */
interface Schema {
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: Schema | boolean
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly minimum?: number
  readonly maximum?: number
  readonly $ref?: string
}

interface Row {
  readonly path: string
  readonly type: string
  readonly fallback: string
  readonly description: string
}

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): Schema => z.toJSONSchema(schema, { io, target: 'draft-2020-12', unrepresentable: 'any' }) as Schema

const optionsOf = ({ anyOf, oneOf }: Schema): readonly Schema[] => anyOf ?? oneOf ?? []

function typeOf(schema: Schema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' or ')
  const options = optionsOf(schema)
  if (options.length > 0) return [...new Set(options.map(typeOf))].join(' or ')
  if (schema.type === 'array') return `list of ${schema.items === undefined ? 'anything' : typeOf(schema.items)}`
  if (schema.type === 'object') return schema.properties === undefined ? 'object by name' : 'object'
  if (schema.type === 'integer' || schema.type === 'number') {
    const { minimum, maximum } = schema
    const [from, to] = [minimum ?? -Infinity, maximum ?? Infinity].map((bound) => (Number.isFinite(bound) && Math.abs(bound) < Number.MAX_SAFE_INTEGER ? bound : null))
    return `${schema.type}${from !== null && to !== null ? `, ${from} to ${to}` : from !== null ? `, from ${from}` : to !== null ? `, to ${to}` : ''}`
  }
  return typeof schema.type === 'string' ? schema.type : schema.type === undefined ? 'any JSON' : schema.type.join(' or ')
}

/** The fields of a schema that have nothing to say what they are for, beside those whose name says it. */
export function undescribed(schema: z.ZodType): string[] {
  return rowsOf(schemaOf(schema, 'input'), '').filter(({ path, type, description }) => description === '' && type !== 'object' && !/(^|\.)(type|cpu|memoryMiB|diskMiB)$/.test(path)).map(({ path }) => path)
}

/** The fields beneath one, a row each, in the order of the schema. */
function rowsOf(schema: Schema, above: string): Row[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([name, field]): Row[] => {
    const path = above === '' ? name : `${above}.${name}`
    const needed = schema.required?.includes(name) === true && field.default === undefined
    const fallback = field.default === undefined ? (needed ? 'required' : '') : `\`${JSON.stringify(field.default)}\``
    return [{ path, type: typeOf(field), fallback, description: field.description ?? '' }, ...rowsOf(field, path)]
  })
  const within = schema.type === 'array' && schema.items !== undefined ? rowsOf(schema.items, `${above}[]`) : []
  const named = typeof schema.additionalProperties === 'object' ? rowsOf(schema.additionalProperties, `${above}.NAME`) : []
  const found = [...own, ...within, ...named, ...optionsOf(schema).flatMap((option) => rowsOf(option, above))]
  // Alternatives have fields in common.
  return [...new Map(found.map((row) => [row.path, row])).values()]
}

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

function fieldTable(schema: Schema): string {
  const rows = rowsOf(schema, '').map(({ path, type, fallback, description }) => `| \`${path}\` | ${cell(type)} | ${cell(fallback)} | ${cell(description)} |`)
  return ['| field | type | default | |', '|---|---|---|---|', ...rows].join('\n')
}

/** A command and those beneath it. */
function commandParts(command: Command, above: string): string[] {
  const name = `${above} ${command.name()}`.trim()
  const beneath = command.commands.filter((each) => each.name() !== 'help')
  const takes = command.registeredArguments.map((argument) => (argument.required ? `<${argument.name()}${argument.variadic ? '...' : ''}>` : `[${argument.name()}${argument.variadic ? '...' : ''}]`))
  const options = command.options.map(({ flags, description, defaultValue }) => `| \`${cell(flags)}\` | ${cell(description)}${defaultValue === undefined || defaultValue === false ? '' : ` (default \`${cell(JSON.stringify(defaultValue))}\`)`} |`)
  const own = [`### \`${[name, ...takes].join(' ')}\``, `${command.description()}.`, ...(options.length === 0 ? [] : [['| option | |', '|---|---|', ...options].join('\n')])]
  return [...own, ...beneath.flatMap((each) => commandParts(each, name))]
}

const entries: readonly (readonly [string, z.ZodType])[] = [
  ['git, type code-storage', codeStorageConfigSchema],
  ['git, type https', httpsGitConfigSchema],
]

/** The document. */
export function reference(): string {
  const program = new Command('switchyard')
  addCommands(program)
  return `${[
    '# Reference',
    '<!-- generated by script/write-reference.ts -->',
    'Made from the schemas that check what you write, and from the program. The same for machines: [schema](../schema). Besides: [errors](errors.md), [metrics](metrics.md#all-metrics), the [HTTP API](../schema/openapi.json). what each kind of provider takes besides is in [providers.md](providers.md). `[]` stands for each entry of a list, `NAME` for a name of yours.',
    '## A job',
    fieldTable(schemaOf(jobSpecSchema, 'input')),
    '## A result',
    fieldTable(schemaOf(jobResultSchema, 'output')),
    '## The configuration',
    fieldTable(schemaOf(configSchema, 'input')),
    ...entries.flatMap(([name, schema]) => [`### \`${name}\``, fieldTable(schemaOf(schema, 'input'))]),
    '## The commands',
    ...program.commands.flatMap((command) => commandParts(command, 'switchyard')),
  ].join('\n\n')}\n`
}

const document = new URL('../docs/reference.md', import.meta.url)

/** The document as it stands. */
export async function writtenReference(): Promise<string> {
  return await readFile(document, 'utf8')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(document, reference())
