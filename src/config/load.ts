import { readFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname, extname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { devRuns } from './dev-owner.js'
import { unknownVariables, withEnvironment } from './environment.js'
import { configSchema, type Config } from './schema.js'
import { redisFilesIn } from '../store/redis-config.js'

/** The names that are looked for, in this order, when no file is named. */
export const configFileNames = ['switchyard.config.ts', 'switchyard.config.js', 'switchyard.config.mjs', 'switchyard.config.json'] as const

/** Where `switchyard dev` leaves the configuration of what it started, for the other commands to find. */
export const devConfigPath = join('.switchyard', 'dev', 'switchyard.config.json')

export interface LoadedConfig {
  readonly config: Config
  /** The file that it came from; undefined when there was none and the defaults hold. */
  readonly path: string | undefined
  /** Things to show that are no errors, a sentence each. */
  readonly warnings: readonly string[]
}

export interface LoadConfigOptions {
  /** A file, as `--config` gives it. It must exist. */
  readonly path?: string | undefined
  /** The folder in which to look for a file. Default: the working directory. */
  readonly directory?: string
  /** Default: `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>
}

/**
 * Finds, reads and checks the configuration. In order: `path`, `SWITCHYARD_CONFIG`, what a running `switchyard dev` left
 * in `.switchyard/dev` of the folder or of the checkout that it lies in, a `switchyard.config.*` in the folder, and the defaults. The
 * environment overrides each.
 * @throws InvalidInputError with a sentence for every mistake in the file or the environment.
 */
export async function loadConfig(options: LoadConfigOptions = {}): Promise<LoadedConfig> {
  const { path, file, warnings } = await readConfiguration(options)
  const config = parseConfig(file, options.environment ?? process.env)
  const folder = path === undefined ? resolve(options.directory ?? '.') : dirname(path)
  return { config: { ...config, redis: redisFilesIn(config.redis, (name) => resolve(folder, name)) }, path, warnings }
}

/**
 * The same without the check: what the file holds.
 * @throws InvalidInputError when it can't be found or read.
 */
export async function readConfiguration(options: LoadConfigOptions = {}): Promise<{ readonly path: string | undefined; readonly file: unknown; readonly warnings: readonly string[] }> {
  const environment = options.environment ?? process.env
  const directory = resolve(options.directory ?? '.')
  const { path, instead } = await findConfigFile(directory, options.path, environment['SWITCHYARD_CONFIG'])
  const file = path === undefined ? {} : await readConfigFile(path)
  const passedOver = instead === undefined ? [] : [`the "switchyard dev" that runs here is used, and not ${instead}; for that one give --config`]
  return { path, file, warnings: [...passedOver, ...unknownVariables(environment)] }
}

/**
 * Checks a configuration that is already in memory.
 * @throws InvalidInputError with a sentence for every mistake.
 */
export function parseConfig(file: unknown, environment: Readonly<Record<string, string | undefined>> = {}): Config {
  return parseInput(configSchema, withEnvironment(file, environment), 'configuration')
}

/** @returns the file, and one that is passed over for it. */
async function findConfigFile(directory: string, named: string | undefined, fromEnvironment: string | undefined): Promise<{ readonly path: string | undefined; readonly instead?: string }> {
  const wanted = named ?? fromEnvironment
  if (wanted !== undefined && wanted !== '') {
    const path = isAbsolute(wanted) ? wanted : join(directory, wanted)
    if (existsSync(path)) return { path }
    const origin = named === undefined ? 'SWITCHYARD_CONFIG' : '--config'
    throw new InvalidInputError(`${origin}: there is no file ${path}; give the path of a configuration file`)
  }
  const own = configFileNames.map((name) => join(directory, name)).find((path) => existsSync(path))
  const dev = devConfigPaths(directory).find((path) => existsSync(path))
  // Whoever has started one here means it; one that was killed is nobody's.
  if (own !== undefined && dev !== undefined && (await devRuns(dirname(dev)))) return { path: dev, instead: own }
  return { path: own ?? dev }
}

/** Where a running `dev` of this folder, or of the checkout that it lies in, leaves its configuration. Not beyond: who knows whose that is. */
function devConfigPaths(directory: string): string[] {
  const folders = [directory]
  for (let folder = directory; !existsSync(join(folder, '.git')); folders.push(folder)) {
    const parent = dirname(folder)
    if (parent === folder) return [join(directory, devConfigPath)]
    folder = parent
  }
  return folders.map((folder) => join(folder, devConfigPath))
}

async function readConfigFile(path: string): Promise<unknown> {
  const extension = extname(path)
  if (extension === '.json') return parseJson(path, await readFile(path, 'utf8'))
  if (['.ts', '.mts', '.js', '.mjs'].includes(extension)) {
    const exported = await importModule(path)
    const value = exported['default']
    if (value === undefined) {
      throw new InvalidInputError(`${path}: exports no default; end it with "export default defineConfig({ … })"`)
    }
    return value
  }
  throw new InvalidInputError(`${path}: "${extension}" is not a kind of file that is read here; use .ts, .js, .mjs or .json`)
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidInputError(`${path}: is not valid JSON (${errorMessage(error)}); mend it at that place`)
  }
}

/**
 * Imports a user's module, TypeScript too, which Node 20 can't do alone. `switchyard` means this very installation,
 * so that a configuration works beside a global one as well.
 * @throws InvalidInputError when it can't be loaded, with the reason.
 */
export async function importModule(path: string): Promise<Record<string, unknown>> {
  try {
    if (['.js', '.mjs'].includes(extname(path))) return (await import(pathToFileURL(path).href)) as Record<string, unknown>
    const { createJiti } = await import('jiti')
    const jiti = createJiti(import.meta.url, { fsCache: false, interopDefault: false, alias: ownModules() })
    return await jiti.import<Record<string, unknown>>(path)
  } catch (error) {
    throw new InvalidInputError(`${path}: can't be loaded (${errorMessage(error)})`)
  }
}

/** What `switchyard/…` means to a configuration or a provider's module: this installation's own files. */
function ownModules(): Record<string, string> {
  const extension = extname(fileURLToPath(import.meta.url))
  const folders = ['config', 'consumers', 'embedded', 'events', 'monitor', 'producers', 'providers', 'providers/conformance', 'webhooks']
  const file = (path: string) => fileURLToPath(new URL(`../${path}${extension}`, import.meta.url))
  const entries: [string, string][] = folders.map((folder) => [`switchyard/${folder}`, file(`${folder}/index`)])
  return Object.fromEntries([...entries, ['switchyard', file('index')]])
}
