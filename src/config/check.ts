import { resolve } from 'node:path'
import { createArtifactStore, artifactsConfigSchema } from '../artifacts/index.js'
import { InvalidInputError } from '../job/errors.js'
import { createGitHost } from './git-host.js'
import { withKeyFiles } from './key-files.js'
import { checkRedisFiles, redisFilesIn } from '../store/redis-config.js'
import { type LoadConfigOptions, parseConfig, readConfiguration } from './load.js'
import { configDirectory, createProviders, providerPlaces } from './providers.js'
import { type Config, gitEntrySchema, providerEntrySchema } from './schema.js'

/** What a check of a configuration found. */
export interface ConfigCheck {
  /** The file that was read; undefined when there is none, and the defaults hold. */
  readonly path: string | undefined
  /** What is wrong, a sentence each with the field, the problem and the mend. With any of them nothing starts. */
  readonly problems: readonly string[]
  /** What is odd, or missing for a consumer but not for others. */
  readonly warnings: readonly string[]
  /** The checked configuration; undefined with a problem in it. */
  readonly config: Config | undefined
}

/**
 * Checks a configuration without calling anybody: the file, the environment over it, and what each adapter, the git host and the artifact store take.
 * All problems come at once, also where one part can't be read at all.
 */
export async function checkConfig(options: LoadConfigOptions = {}): Promise<ConfigCheck> {
  const environment = options.environment ?? process.env
  const problems: string[] = []
  const warnings: string[] = []
  const collect = async <Value>(work: () => Value | Promise<Value>): Promise<Value | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      problems.push(...error.problems)
      return undefined
    }
  }
  const found = await collect(() => readConfiguration(options))
  if (found === undefined) return { path: undefined, problems, warnings, config: undefined }
  const { path, file } = found
  warnings.push(...found.warnings)
  const config = await collect(() => parseConfig(file, environment))
  const directory = configDirectory(path)
  if (config !== undefined) await collect(() => checkRedisFiles(redisFilesIn(config.redis, (name) => resolve(directory, name))))
  const raw = typeof file === 'object' && file !== null ? (file as Readonly<Record<string, unknown>>) : {}
  const keyFiles = config?.keyFiles ?? {}
  const parts = { directory, environment: withKeyFiles(environment, keyFiles, directory) }

  // Entries whose common fields are wrong have been told of; their adapters' own are looked at all the same.
  const entries: readonly unknown[] = Array.isArray(raw['providers']) ? raw['providers'] : []
  for (const [index, entry] of entries.entries()) {
    const readable = providerEntrySchema.safeParse(typeof entry === 'object' && entry !== null ? { ...entry, limit: { sandboxes: 1 }, price: undefined, ...nameOf(entry, index) } : entry)
    if (!readable.success) continue
    await collect(async () => {
      const [made] = await createProviders([readable.data], { ...parts, places: providerPlaces(index) })
      await made?.provider.close()
    })
  }
  const git = gitEntrySchema.safeParse(raw['git'])
  if (git.success) await collect(() => createGitHost(git.data, parts))
  const artifacts = artifactsConfigSchema.safeParse(raw['artifacts'])
  if (artifacts.success) await collect(() => createArtifactStore(artifacts.data, parts).close())
  if (raw['git'] === undefined) warnings.push('git: is missing; producers and the board need none, but a consumer does, such as { type: "code-storage", org: "acme" }')
  if (!Array.isArray(raw['providers']) || raw['providers'].length === 0) warnings.push('providers: none is given; producers and the board need none, but a consumer needs at least one')
  const distinct = [...new Set(problems)]
  return { path, problems: distinct, warnings, config: distinct.length === 0 ? config : undefined }
}

/** A name for an entry whose own is wrong, which is told elsewhere. */
function nameOf(entry: object, index: number): { readonly name?: string } {
  const own = providerEntrySchema.shape.name.safeParse('name' in entry ? entry.name : undefined)
  return own.success ? {} : { name: `provider-${index}` }
}
