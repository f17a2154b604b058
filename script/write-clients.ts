// Writes what the clients of other languages are built on, from schema/openapi.json: the types of what goes in and out, by each language's usual
// generator, and the table of operations. A test holds the files against their digests and the document's (clients/generated.json).
//
//   npx tsx script/write-clients.ts     needs Python and Go; the generators are installed into .cache/clients
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const generators = { python: 'datamodel-code-generator==0.89.0', go: 'github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2' }
const top = fileURLToPath(new URL('../', import.meta.url))
const files = ['clients/python/src/switchyard/_models.py', 'clients/python/src/switchyard/_inputs.py', 'clients/python/src/switchyard/_operations.py', 'clients/go/models.gen.go', 'clients/go/operations.gen.go'] as const

type Schema = Readonly<Record<string, unknown>>
interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly tags: readonly string[]
  readonly requestBody?: object
  readonly parameters?: readonly { readonly in: string; readonly name: string }[]
}
export interface OpenApi {
  readonly openapi: string
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

/** What looks after a deployment is done from a terminal or the board; the clients have the rest. */
const operatorsAlone = (operationId: string, tags: readonly string[]) => tags.includes('operate') || operationId === 'getFleet'

/** The document as far as the clients have it. */
export function readDocument(): OpenApi {
  const document = JSON.parse(readFileSync(join(top, 'schema/openapi.json'), 'utf8')) as OpenApi
  const ours = Object.entries(document.paths).map(([path, methods]) => [path, Object.fromEntries(Object.entries(methods).filter(([, { operationId, tags }]) => !operatorsAlone(operationId, tags)))] as const)
  const paths = Object.fromEntries(ours.filter(([, methods]) => Object.keys(methods).length > 0))
  const reached = reachedFrom(document, JSON.stringify(paths))
  return { openapi: document.openapi, paths, components: { schemas: Object.fromEntries(Object.entries(document.components.schemas).filter(([name]) => reached.has(name))) } }
}

/** The components that a part of the document refers to, and those that these refer to. */
function reachedFrom({ components: { schemas } }: Pick<OpenApi, 'components'>, text: string, reached = new Set<string>()): Set<string> {
  for (const [, name = ''] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    if (reached.has(name)) continue
    reached.add(name)
    reachedFrom({ components: { schemas } }, JSON.stringify(schemas[name]), reached)
  }
  return reached
}

/** What `clients/generated.json` should hold: digests of what they were made from, and of what was made. */
export function digests(): object {
  const digest = (text: string) => createHash('sha256').update(text).digest('hex')
  return { 'schema/openapi.json': digest(JSON.stringify(readDocument())), ...Object.fromEntries(files.map((file) => [file, digest(readFileSync(join(top, file), 'utf8'))])) }
}

/** Every operation: its id, method and path, and whether it takes an `Idempotency-Key`. */
export function operations({ paths }: OpenApi) {
  return Object.entries(paths)
    .flatMap(([path, methods]) => Object.entries(methods).map(([method, { operationId, summary, parameters = [] }]) => ({ id: operationId, method: method.toUpperCase(), path, summary, once: parameters.some(({ name }) => name === 'idempotency-key') })))
    .sort((one, other) => (one.id < other.id ? -1 : 1))
}

/** The components that a request may hold, and all others. */
function split(document: OpenApi): { readonly inputs: Record<string, Schema>; readonly outputs: Record<string, Schema> } {
  const bodies = Object.values(document.paths).flatMap((methods) => Object.values(methods).map(({ requestBody }) => requestBody ?? {}))
  const reached = reachedFrom(document, JSON.stringify(bodies))
  const of = (wanted: (name: string) => boolean) => Object.fromEntries(Object.entries(document.components.schemas).filter(([name]) => wanted(name)))
  return { inputs: of((name) => reached.has(name)), outputs: of((name) => !reached.has(name)) }
}

/** Bounds and patterns are the server's to tell, in a sentence; and those of answers may widen. */
const checks = new Set(['minLength', 'maxLength', 'pattern', 'minimum', 'maximum', 'exclusiveMinimum', 'minItems', 'maxItems', 'propertyNames', 'default'])

/** @param change what becomes of each schema, from the innermost on; undefined: it stays. */
function mapSchema(part: unknown, change: (schema: Schema) => Schema): unknown {
  if (Array.isArray(part)) return part.map((inner) => mapSchema(inner, change))
  if (typeof part !== 'object' || part === null) return part
  return change(Object.fromEntries(Object.entries(part).map(([key, value]) => [key, mapSchema(value, change)])))
}

function isNullable({ type, anyOf }: Schema): boolean {
  return type === 'null' || (Array.isArray(type) && type.includes('null')) || (Array.isArray(anyOf) && anyOf.some((part) => isNullable(part as Schema)))
}

function unchecked(schema: Schema): Schema {
  return Object.fromEntries(Object.entries(schema).filter(([key, value]) => !(checks.has(key) && typeof value !== 'object') && !(key === 'propertyNames') && !(key === 'format' && value === 'uri') && !(key === 'additionalProperties' && value === false)))
}

/** Python: what goes in are dictionaries that a type checker knows, what comes out are objects of pydantic that take what they don't know. */
function writePython(document: OpenApi, folder: string): void {
  const venv = join(top, '.cache/clients/generator')
  if (!existsSync(join(venv, 'bin/datamodel-codegen'))) {
    execFileSync('python3', ['-m', 'venv', venv])
    execFileSync(join(venv, 'bin/pip'), ['install', '--quiet', generators.python], { stdio: 'inherit' })
  }
  const { inputs, outputs } = split(document)
  const common = ['--input-file-type', 'openapi', '--openapi-scopes', 'schemas', '--formatters', 'builtin', '--target-python-version', '3.10', '--enum-field-as-literal', 'all', '--disable-timestamp', '--use-schema-description', '--use-field-description', '--use-double-quotes', '--custom-file-header', '# Made by script/write-clients.ts from schema/openapi.json; not to be edited.\n# ruff: noqa']
  // An older server does not send what a later release has added.
  const lenient = (schema: Schema): Schema => {
    const plain = unchecked(schema)
    return isNullable(plain) ? { ...plain, default: null } : plain['type'] === 'array' ? { ...plain, default: [] } : plain
  }
  const make = (schemas: Record<string, Schema>, change: (schema: Schema) => Schema, to: string, flags: readonly string[]) => {
    const from = join(folder, `${to}.json`)
    writeFileSync(from, JSON.stringify({ openapi: document.openapi, info: { title: 'Switchyard', version: '1' }, paths: {}, components: { schemas: mapSchema(schemas, change) } }))
    execFileSync(join(venv, 'bin/datamodel-codegen'), ['--input', from, '--output', join(top, `clients/python/src/switchyard/${to}.py`), ...common, ...flags], { stdio: 'inherit' })
  }
  make(inputs, unchecked, '_inputs', ['--output-model-type', 'typing.TypedDict'])
  make(outputs, lenient, '_models', ['--use-default', '--output-model-type', 'pydantic_v2.BaseModel', '--snake-case-field', '--allow-population-by-field-name', '--extra-fields', 'allow'])
  const lines = operations(document).map(({ id, method, path, once, summary }) => `${constant(id)} = Operation("${method}", "${path}", once=${once ? 'True' : 'False'})\n"""${summary}."""`)
  writeFileSync(join(top, 'clients/python/src/switchyard/_operations.py'), `# Made by script/write-clients.ts from schema/openapi.json; not to be edited.
from typing import NamedTuple


class Operation(NamedTuple):
    method: str
    path: str
    once: bool
    """Whether it takes an Idempotency-Key."""


${lines.join('\n')}
`)
}

/** Unions have types of their own, written by hand; what may be null is a pointer, what may be left out is not. */
const goTypes: Readonly<Record<string, string>> = { 'JobSpec.lfs': 'LFS', 'JobSpec.network': 'Network', 'JobSpec.push': 'PushOption', 'JobSpec.secrets[]': 'Secret', 'Event.data': 'json.RawMessage' }

function goDocument(document: OpenApi): object {
  const schemas = mapSchema(document.components.schemas, (schema) => {
    const plain = unchecked(schema)
    const anyOf = plain['anyOf'] as readonly Schema[] | undefined
    // A command alone is a step that only runs it.
    if (anyOf?.length === 2 && anyOf[0]?.['type'] === 'string' && anyOf[1]?.['$ref'] === '#/components/schemas/Step') return anyOf[1]
    // Whether an object that may be left out is there can matter although all in it is left out.
    return isNullable(plain) || plain['$ref'] !== undefined ? { ...plain, 'x-go-type-skip-optional-pointer': false } : plain
  }) as Record<string, { properties?: Record<string, Schema> }>
  for (const [place, type] of Object.entries(goTypes)) {
    const [component = '', field = ''] = place.replace('[]', '').split('.')
    const properties = schemas[component]?.properties ?? {}
    const found = properties[field]
    if (found === undefined) throw new Error(`${place} is not in schema/openapi.json`)
    const own = { ...(typeof found['description'] === 'string' ? { description: found['description'] } : {}), type: 'object', 'x-go-type': type }
    properties[field] = place.endsWith('[]') ? { ...found, items: own } : own
  }
  delete (schemas as Record<string, unknown>)['EventData']
  return { openapi: document.openapi, info: { title: 'Switchyard', version: '1' }, paths: {}, components: { schemas } }
}

function writeGo(document: OpenApi, folder: string): void {
  const from = join(folder, 'go.json')
  writeFileSync(from, JSON.stringify(goDocument(document)))
  const config = join(folder, 'go.yml')
  writeFileSync(config, JSON.stringify({
    package: 'switchyard', output: join(top, 'clients/go/models.gen.go'), generate: { models: true }, compatibility: { 'always-prefix-enum-values': true },
    'output-options': { 'skip-prune': true, 'name-normalizer': 'ToCamelCaseWithInitialisms', 'prefer-skip-optional-pointer': true, 'prefer-skip-optional-pointer-with-omitzero': true },
  }))
  execFileSync('go', ['run', generators.go, '-config', config, from], { cwd: folder, stdio: 'inherit' })
  const models = join(top, 'clients/go/models.gen.go')
  // The package has a description of its own.
  writeFileSync(models, readFileSync(models, 'utf8').replace(/^\/\/ Package .*\n\/\/\n(\/\/ Code generated .*\n)/, '$1\n'))
  const lines = operations(document).map(({ id, method, path, once, summary }) => `\t// ${summary}.\n\top${id.charAt(0).toUpperCase()}${id.slice(1)} = operation{"${method}", "${path}", ${once}}`)
  const to = join(top, 'clients/go/operations.gen.go')
  writeFileSync(to, `// Code generated by script/write-clients.ts from schema/openapi.json; DO NOT EDIT.\n\npackage switchyard\n\n// operation is one of the API's; once says whether it takes an Idempotency-Key.\ntype operation struct {\n\tmethod, path string\n\tonce         bool\n}\n\nvar (\n${lines.join('\n')}\n)\n`)
  execFileSync('gofmt', ['-w', to])
}

function constant(id: string): string {
  return id.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = mkdtempSync(join(tmpdir(), 'sy-clients-'))
  mkdirSync(join(top, '.cache/clients'), { recursive: true })
  try {
    const document = readDocument()
    writePython(document, folder)
    writeGo(document, folder)
    writeFileSync(join(top, 'clients/generated.json'), `${JSON.stringify(digests(), null, 2)}\n`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
