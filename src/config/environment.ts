import { z } from 'zod'
import { parseInput } from '../job/explain.js'
import { didYouMean } from '../job/nearest-name.js'

/**
 * The environment variables that override the configuration file, each with the field that it sets. Variables win over
 * the file, so that one file serves every place where a deployment runs.
 */

const text = z.string().min(1, 'is empty; unset it or give a value')
const wholeNumber = z
  .string()
  .regex(/^\d{1,15}$/, 'must be a whole number')
  .transform(Number)
const yesNo = z.enum(['true', 'false'], { error: 'must be "true" or "false"' }).transform((value) => value === 'true')
const names = z.string().transform((list) => list.split(',').map((name) => name.trim()).filter((name) => name !== ''))

const overrides = {
  SWITCHYARD_DEPLOYMENT: { path: ['deployment'], schema: text },
  SWITCHYARD_REDIS_URL: { path: ['redis', 'url'], schema: text },
  SWITCHYARD_REDIS_USERNAME: { path: ['redis', 'username'], schema: text },
  SWITCHYARD_REDIS_PASSWORD: { path: ['redis', 'password'], schema: text },
  SWITCHYARD_REDIS_PASSWORD_FILE: { path: ['redis', 'passwordFile'], schema: text },
  SWITCHYARD_REDIS_CA_FILE: { path: ['redis', 'tls', 'caFile'], schema: text },
  SWITCHYARD_REDIS_CERT_FILE: { path: ['redis', 'tls', 'certFile'], schema: text },
  SWITCHYARD_REDIS_KEY_FILE: { path: ['redis', 'tls', 'keyFile'], schema: text },
  SWITCHYARD_REDIS_SERVER_NAME: { path: ['redis', 'tls', 'serverName'], schema: text },
  SWITCHYARD_REDIS_CLUSTER: { path: ['redis', 'cluster', 'nodes'], schema: names },
  SWITCHYARD_REDIS_SENTINELS: { path: ['redis', 'sentinel', 'nodes'], schema: names },
  SWITCHYARD_REDIS_SENTINEL_NAME: { path: ['redis', 'sentinel', 'name'], schema: text },
  SWITCHYARD_REDIS_SENTINEL_PASSWORD: { path: ['redis', 'sentinel', 'password'], schema: text },
  SWITCHYARD_QUEUE_NAME: { path: ['queue', 'name'], schema: text },
  SWITCHYARD_QUEUE_PREFIX: { path: ['queue', 'prefix'], schema: text },
  SWITCHYARD_CONSUMER_MAX_JOBS: { path: ['consumer', 'maxJobs'], schema: wholeNumber },
  SWITCHYARD_CONSUMER_SECRETS: { path: ['consumer', 'secrets'], schema: names },
  SWITCHYARD_LOG_LEVEL: { path: ['logs', 'level'], schema: text },
  SWITCHYARD_SPEC_BYTES: { path: ['limits', 'specBytes'], schema: wholeNumber },
  SWITCHYARD_HTTP_HOST: { path: ['http', 'host'], schema: text },
  SWITCHYARD_HTTP_PORT: { path: ['http', 'port'], schema: wholeNumber },
  SWITCHYARD_MONITOR_HOST: { path: ['monitor', 'host'], schema: text },
  SWITCHYARD_MONITOR_PORT: { path: ['monitor', 'port'], schema: wholeNumber },
  SWITCHYARD_BOARD_HOST: { path: ['board', 'host'], schema: text },
  SWITCHYARD_BOARD_PORT: { path: ['board', 'port'], schema: wholeNumber },
  SWITCHYARD_BOARD_USERNAME: { path: ['board', 'username'], schema: text },
  SWITCHYARD_BOARD_WRITABLE: { path: ['board', 'writable'], schema: yesNo },
} as const satisfies Record<string, { path: readonly string[]; schema: z.ZodType }>

/** Variables with the prefix that are read elsewhere (the last two by the clients of other languages), or hold values that must not enter the configuration. */
const readElsewhere = ['SWITCHYARD_CONFIG', 'SWITCHYARD_BOARD_PASSWORD', 'SWITCHYARD_OPERATOR', 'SWITCHYARD_URL', 'SWITCHYARD_API_KEY']

const schema = z.object(Object.fromEntries(Object.entries(overrides).map(([name, { schema: one }]) => [name, one.optional()])))

/** The variables that override the configuration, and the field that each sets. For `--help` and the docs. */
export const environmentFields: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(overrides).map(([name, { path }]) => [name, path.join('.')]),
)

/**
 * Lays the environment over a configuration as read from a file.
 * @returns a new object; `file` is left as it is.
 * @throws InvalidInputError with a sentence for every variable that is wrong.
 */
export function withEnvironment(file: unknown, environment: Readonly<Record<string, string | undefined>>): unknown {
  const values = parseInput(schema, environment, 'environment')
  if (typeof file !== 'object' || file === null || Array.isArray(file)) return file
  let merged: Record<string, unknown> = { ...file }
  for (const [name, { path }] of Object.entries(overrides)) {
    const value = values[name]
    if (value !== undefined) merged = setAt(merged, path, value)
  }
  return merged
}

function setAt(target: Record<string, unknown>, path: readonly string[], value: unknown): Record<string, unknown> {
  const [first, ...rest] = path
  if (first === undefined) return target
  if (rest.length === 0) return { ...target, [first]: value }
  const inner = target[first]
  // Something else than an object stays where it is for the schema to complain about.
  if (inner !== undefined && (typeof inner !== 'object' || inner === null)) return target
  return { ...target, [first]: setAt({ ...inner }, rest, value) }
}

/** A sentence for every variable that looks like ours and is not, since a misspelt override is silently without effect. */
export function unknownVariables(environment: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith('SWITCHYARD_') && !(name in overrides) && !readElsewhere.includes(name))
    .map((name) => `${name}: is not a variable that Switchyard knows${didYouMean(name, [...Object.keys(overrides), ...readElsewhere])}, so it has no effect; the known ones are listed by "switchyard --help"`)
}
