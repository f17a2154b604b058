// Writes src/config/config-input.ts: the configuration as users write it, as types whose fields carry their descriptions, which editors show. They
// come out of the schemas, adapters' among them, so that each is described in one place. A test holds the file against this.
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { safeParse, type z } from 'zod'
import { configSchema, providerEntrySchema } from '../src/config/schema.js'
import { codeStorageConfigSchema, httpsGitConfigSchema } from '../src/git/config.js'
import { daytonaProviderConfigSchema } from '../src/providers/daytona/config.js'
import { dockerProviderConfigSchema } from '../src/providers/docker/config.js'
import { e2bProviderConfigSchema } from '../src/providers/e2b/config.js'
import { localProviderConfigSchema } from '../src/providers/local/config.js'
import { modalProviderConfigSchema } from '../src/providers/modal/config.js'

type Schema = z.core.$ZodType
type Fields = Readonly<Record<string, Schema>>

/** What a schema is underneath its default, its transformation and the like. */
function inner(schema: Schema): Schema {
  const { def } = schema._zod as unknown as { def: { type: string; innerType?: Schema; in?: Schema } }
  const next = ['optional', 'default', 'prefault', 'nonoptional', 'readonly'].includes(def.type) ? def.innerType : def.type === 'pipe' ? def.in : undefined
  return next === undefined ? schema : inner(next)
}

/** The description that stands outermost. */
function described(schema: Schema): string | undefined {
  const { description } = schema as { description?: string }
  if (description !== undefined) return description
  const { def } = schema._zod as unknown as { def: { innerType?: Schema; in?: Schema } }
  const next = def.innerType ?? def.in
  return next === undefined ? undefined : described(next)
}

function fieldsOf(schema: Schema): Fields | null {
  const { def } = inner(schema)._zod as unknown as { def: { type: string; shape?: Fields; catchall?: unknown } }
  return def.type === 'object' ? (def.shape ?? null) : null
}

/**
 * The fields of an object type, a line or more each.
 * @param path the type that the schema takes, for what is no object.
 */
function lines(fields: Fields, path: string, indent: string, left: readonly string[] = [], own: Readonly<Record<string, string>> = {}): string[] {
  return Object.entries(fields).flatMap(([name, schema]) => {
    if (left.includes(name)) return []
    const description = described(schema)
    const type = own[name] ?? typeOf(schema, `${path}[${JSON.stringify(name).replaceAll('"', "'")}]`, indent)
    // It may be left out where nothing is taken for it.
    const optional = safeParse(schema, undefined).success
    return [...(description === undefined ? [] : [`${indent}/** ${description.replaceAll('*/', '* /')} */`]), `${indent}${name}${optional ? '?' : ''}: ${type}${optional ? ' | undefined' : ''}`]
  })
}

function typeOf(schema: Schema, path: string, indent: string): string {
  const fields = fieldsOf(schema)
  if (fields === null) return path
  return `{\n${lines(fields, `NonNullable<${path}>`, `${indent}  `).join('\n')}\n${indent}}`
}

const adapters = { local: localProviderConfigSchema, e2b: e2bProviderConfigSchema, modal: modalProviderConfigSchema, daytona: daytonaProviderConfigSchema, docker: dockerProviderConfigSchema } as const
const hosts = { CodeStorage: ['code-storage', codeStorageConfigSchema, 'codeStorageConfigSchema'], Https: ['https', httpsGitConfigSchema, 'httpsGitConfigSchema'] } as const

const capital = (name: string) => `${name[0]?.toUpperCase() ?? ''}${name.slice(1)}`
const shape = (schema: Schema): Fields => fieldsOf(schema) ?? {}

/** The file's content. */
export function configTypes(): string {
  const entry = (name: keyof typeof adapters) => [
    `/** A provider's entry: ${name}. */`,
    `export interface ${capital(name)}Entry extends EntryInput {`,
    `  type: '${name}'`,
    ...lines(shape(adapters[name]), `z.input<typeof ${name}ProviderConfigSchema>`, '  ', ['type', ...Object.keys(shape(providerEntrySchema))]),
    '}',
    '',
  ]
  const host = ([name, [type, schema, variable]]: [string, (typeof hosts)[keyof typeof hosts]]) => [
    `/** The git host: ${type}. */`,
    `export interface ${name}Input {`,
    `  type: '${type}'`,
    ...lines(shape(schema), `z.input<typeof ${variable}>`, '  ', ['type']),
    '}',
    '',
  ]
  const names = Object.keys(adapters) as (keyof typeof adapters)[]
  return [
    '// Made by script/write-config-types.ts out of the schemas, which say what is checked; a change belongs there.',
    "import type { z } from 'zod'",
    "import type { codeStorageConfigSchema, httpsGitConfigSchema } from '../git/config.js'",
    ...[...names].sort().map((name) => `import type { ${name}ProviderConfigSchema } from '../providers/${name}/config.js'`),
    "import type { configSchema, providerEntrySchema } from './schema.js'",
    '',
    'type Whole = z.input<typeof configSchema>',
    'type Entry = z.input<typeof providerEntrySchema>',
    '',
    "/** What every provider's entry has. */",
    'export interface EntryInput {',
    ...lines(shape(providerEntrySchema), 'Entry', '  ', ['type']),
    '}',
    '',
    ...names.flatMap(entry),
    '/** A provider of your own: a module that makes it. */',
    'export interface CustomEntry extends EntryInput {',
    "  type: 'custom'",
    '  /** The path of the module whose default makes the provider, relative to the configuration. */',
    '  module: string',
    '  /** What it is given. */',
    '  options?: Record<string, unknown> | undefined',
    '}',
    '',
    ...Object.entries(hosts).flatMap(host),
    '/** The configuration as users write it. Every field has a default, but a consumer needs `git` and `providers`. */',
    'export interface ConfigInput {',
    ...lines(shape(configSchema), 'Whole', '  ', [], { providers: [...names.map((name) => `${capital(name)}Entry`), 'CustomEntry'].join(' | ').replace(/^(.*)$/, '($1)[]'), git: Object.keys(hosts).map((name) => `${name}Input`).join(' | ') }),
    '}',
    '',
  ].join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(new URL('../src/config/config-input.ts', import.meta.url), configTypes())
