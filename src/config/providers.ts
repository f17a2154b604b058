import { createHash } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { InvalidInputError, errorMessage } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { didYouMean } from '../job/nearest-name.js'
import { credentialsProblem } from '../consumers/transfer/credentials.js'
import type { Provider } from '../providers/provider.js'
import { importModule } from './load.js'
import type { ProviderEntry, ProviderLimit } from './schema.js'

/** A provider as its entry describes it, ready to use. */
export interface ConfiguredProvider {
  readonly provider: Provider
  readonly limit: ProviderLimit
  readonly price: ProviderEntry['price']
  readonly credentials: ProviderEntry['credentials']
  /** A digest of what its adapter is configured with; keys are not part of that. */
  readonly configuration: string
}

export interface AdapterContext {
  /** The entry's place, for messages: `providers[2]`. */
  readonly place: string
  /** What relative paths in the configuration are relative to. */
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly credentials: ProviderEntry['credentials']
}

/** Checks an entry's own options (`name` among them) and constructs the adapter. Nothing is sent anywhere yet. */
type Construct = (options: Record<string, unknown>, context: AdapterContext) => Promise<Provider>

/** Each adapter is imported when an entry names it, and not before: an SDK that nobody uses costs nothing. */
const adapters: Readonly<Record<string, Construct>> = {
  local: async (options, { place }) => {
    const { localProviderConfigSchema, LocalProvider } = await import('../providers/local/index.js')
    return new LocalProvider(checkOptions(localProviderConfigSchema, options, place))
  },
  e2b: async (options, { place, environment }) => {
    const { e2bProviderConfigSchema, E2bProvider } = await import('../providers/e2b/index.js')
    return new E2bProvider(checkOptions(e2bProviderConfigSchema, options, place), { environment })
  },
  modal: async (options, { place, environment, credentials }) => {
    const { modalProviderConfigSchema, ModalProvider } = await import('../providers/modal/index.js')
    // Modal takes no headers for a sandbox that was created without any.
    const settings = credentials === 'injected' ? { injectHeaders: true, ...options } : options
    return new ModalProvider(checkOptions(modalProviderConfigSchema, settings, place), { environment })
  },
  daytona: async (options, { place, environment }) => {
    const { daytonaProviderConfigSchema, DaytonaProvider } = await import('../providers/daytona/index.js')
    return new DaytonaProvider(checkOptions(daytonaProviderConfigSchema, options, place), { env: environment })
  },
  docker: async (options, { place, environment }) => {
    const { dockerProviderConfigSchema, DockerProvider } = await import('../providers/docker/index.js')
    return new DockerProvider(checkOptions(dockerProviderConfigSchema, options, place), environment)
  },
  custom: constructCustom,
}

/** The types that a provider's entry may have. */
export const providerTypes: readonly string[] = Object.keys(adapters)

const customSchema = z.strictObject({
  name: z.string(),
  module: z.string({ error: 'is missing; give the path of the module that makes the provider, such as "./my-provider.ts"' }).min(1, 'is empty; give the path of the module that makes the provider'),
  options: z.record(z.string(), z.json(), { error: 'must be an object of options for the module' }).default({}),
})

/** What a `custom` provider's module exports as its default. */
export type CreateProvider = (settings: { readonly name: string; readonly options: Readonly<Record<string, unknown>> }) => Provider | Promise<Provider>

/**
 * Makes the configured providers, in order.
 * @throws InvalidInputError with a sentence for every mistake in any of the entries.
 */
export async function createProviders(
  entries: readonly ProviderEntry[],
  options: { readonly directory?: string; readonly environment?: Readonly<Record<string, string | undefined>>; readonly places?: (index: number) => string } = {},
): Promise<ConfiguredProvider[]> {
  if (entries.length === 0) {
    throw new InvalidInputError('providers: is empty; a consumer needs at least one, such as { name: "local", type: "local", limit: { sandboxes: 4 } }')
  }
  const problems: string[] = []
  const made: ConfiguredProvider[] = []
  for (const [index, { type, limit, price, credentials, ...rest }] of entries.entries()) {
    const context = { place: (options.places ?? providerPlaces(0))(index), directory: options.directory ?? process.cwd(), environment: options.environment ?? process.env, credentials }
    try {
      const construct = adapters[type]
      if (construct === undefined || !Object.hasOwn(adapters, type)) {
        throw new InvalidInputError(`${context.place}.type: "${type}" is not a type of provider${didYouMean(type, providerTypes)}; give one of ${providerTypes.map((known) => `"${known}"`).join(', ')}`)
      }
      const provider = await construct(rest, context)
      made.push({ provider, limit, price, credentials, configuration: digestOf({ type, ...rest }) })
      const problem = credentialsProblem(`${context.place}.credentials`, provider, credentials)
      if (problem !== undefined) throw new InvalidInputError(problem)
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      problems.push(...error.problems)
    }
  }
  if (problems.length > 0) {
    await Promise.all(made.map(({ provider }) => provider.close()))
    throw new InvalidInputError(problems[0] ?? '', problems)
  }
  return made
}

/** How entries are called in messages, of which the first is this one of the configuration. */
export function providerPlaces(first: number): (index: number) => string {
  return (index) => `providers[${first + index}]`
}

function digestOf(entry: unknown): string {
  return createHash('sha256').update(JSON.stringify(entry)).digest('hex').slice(0, 16)
}

async function constructCustom(options: Record<string, unknown>, { place, directory }: AdapterContext): Promise<Provider> {
  const { name, module, options: own } = checkOptions(customSchema, options, place)
  const path = resolve(directory, module)
  const create = (await importModule(path))['default']
  if (typeof create !== 'function') throw new InvalidInputError(`${place}.module: ${path} exports no function as its default; export one that makes the provider`)
  let provider: unknown
  try {
    provider = await (create as CreateProvider)({ name, options: own })
  } catch (error) {
    throw new InvalidInputError(`${place}.module: ${path} did not make a provider (${errorMessage(error)})`)
  }
  const missing = ['create', 'get', 'exec', 'kill', 'list', 'extend', 'check', 'close'].filter((method) => !hasMethod(provider, method))
  if (missing.length > 0) throw new InvalidInputError(`${place}.module: what ${path} makes is not a provider; it lacks ${missing.join(', ')}`)
  const made = provider as Provider
  if (made.name !== name) throw new InvalidInputError(`${place}.module: ${path} made a provider called "${made.name}"; it must take the name that it is given, "${name}"`)
  return made
}

function hasMethod(value: unknown, method: string): boolean {
  return typeof value === 'object' && value !== null && method in value && typeof (value as Record<string, unknown>)[method] === 'function'
}

/** As `parseInput`, with the entry's place before each field. */
export function checkOptions<Schema extends z.ZodType>(schema: Schema, options: unknown, place: string): z.output<Schema> {
  try {
    return parseInput(schema, options, place)
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    const placed = error.problems.map((problem) => (problem.startsWith(`${place}:`) ? problem : `${place}.${problem}`))
    throw new InvalidInputError(placed[0] ?? error.message, placed)
  }
}

/** The folder of a configuration file, which its relative paths are relative to. */
export function configDirectory(path: string | undefined): string {
  return path === undefined ? process.cwd() : dirname(path)
}
