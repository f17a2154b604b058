import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { createGitHost } from '../../config/git-host.js'
import { loadConfig, parseConfig } from '../../config/load.js'
import { checkOptions, createProviders } from '../../config/providers.js'
import type { Config, ProviderEntry } from '../../config/schema.js'
import { CodeStorageHost, TokenMinter, codeStorageConfigSchema } from '../../git/index.js'
import { InvalidInputError, SwitchyardError } from '../../job/errors.js'
import type { CodeStorageAccess } from '../local-stack.js'
import { organisationVariable, type Services } from './services.js'
import { localEntry, type Stage } from './stage.js'

/**
 * The services themselves, by the keys in the environment: providers of which nothing is known but their names, or those of
 * a configuration. The repository is made at Code Storage for the demo and removed at its end.
 */

const callTimeoutMs = 30_000

export interface RealServiceOptions {
  readonly configPath: string | undefined
  /** For the files of a provider `local` among the names. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/**
 * Asks every provider and the git host whether they let us in; nothing is created yet.
 * @throws InvalidInputError with a sentence for everything that is missing, refused or can't be reached.
 */
export async function useRealServices(services: Extract<Services, { kind: 'real' }>, options: RealServiceOptions): Promise<Stage> {
  const { environment, folder, configPath } = options
  const { git, providers, directory } = await configurationOf(services.names, options)
  const codeStorage = openCodeStorage(git, { directory, environment })
  const unreachable = unreachableFrom(providers, codeStorage.url, environment)
  if (unreachable.length > 0) {
    throw new InvalidInputError(
      `git: ${codeStorage.url} is on this machine, where no sandbox at ${unreachable.join(', ')} can reach it; use a Code Storage that they can reach`,
    )
  }
  const configured = await createProviders(providers, { directory, environment })
  const checks = await Promise.allSettled([
    ...configured.map(({ provider }) => provider.check({ timeoutMs: callTimeoutMs })),
    codeStorage.git.client.repository('switchyard-demo', { timeoutMs: callTimeoutMs }),
  ])
  await Promise.all(configured.map(({ provider }) => provider.close()))
  const sentences = checks.flatMap((check) => {
    if (check.status === 'fulfilled') return []
    if (check.reason instanceof SwitchyardError) return [check.reason.message]
    throw check.reason
  })
  if (sentences.length > 0) throw new InvalidInputError(sentences[0] ?? '', sentences)
  return {
    services: 'real',
    says: `the services themselves: ${services.names.join(', ')}${configPath === undefined ? '' : ` as ${configPath} has them`}, which may charge for it; repositories at ${codeStorage.url}`,
    entries: providers.map((entry) => (entry.type === 'local' && configPath === undefined ? localEntry(entry.name, folder) : entry)),
    environment,
    directory,
    full: [],
    codeStorage,
    close: () => Promise.resolve(),
  }
}

interface Configuration {
  readonly git: Config['git']
  readonly providers: readonly ProviderEntry[]
  /** What relative paths are relative to. */
  readonly directory: string
}

async function configurationOf(names: readonly string[], { configPath, environment }: RealServiceOptions): Promise<Configuration> {
  if (configPath === undefined) {
    const { git, providers } = parseConfig({
      git: { type: 'code-storage', org: environment[organisationVariable]?.trim() },
      providers: names.map((name) => ({ name, type: name, limit: { sandboxes: 4 } })),
    })
    return { git, providers, directory: process.cwd() }
  }
  const { config, path } = await loadConfig({ path: configPath, environment })
  const unknown = names.find((name) => !config.providers.some((entry) => entry.name === name))
  if (unknown !== undefined) {
    throw new InvalidInputError(`--providers: "${unknown}" is not in ${path ?? configPath}; it has ${config.providers.map(({ name }) => name).join(', ') || 'none'}`)
  }
  return { git: config.git, providers: names.flatMap((name) => config.providers.filter((entry) => entry.name === name)), directory: dirname(path ?? configPath) }
}

function openCodeStorage(entry: Config['git'], place: { readonly directory: string; readonly environment: RealServiceOptions['environment'] }): CodeStorageAccess {
  const git = createGitHost(entry, place)
  if (!(git instanceof CodeStorageHost)) throw new InvalidInputError('git.type: the demo makes a repository of its own and removes it, which it can at "code-storage" only')
  const { org, algorithm, kid, privateKeyEnv = 'PIERRE_PRIVATE_KEY', ...checked } = checkOptions(codeStorageConfigSchema, entry, 'git')
  const privateKeyFile = checked.privateKeyFile === undefined ? undefined : resolve(place.directory, checked.privateKeyFile)
  const privateKey = privateKeyFile === undefined ? (place.environment[privateKeyEnv] ?? '') : readFileSync(privateKeyFile, 'utf8')
  return {
    git,
    minter: new TokenMinter({ org, privateKey, algorithm, kid }),
    url: (checked.storageUrl ?? `https://${org}.code.storage`).replace(/\/+$/, ''),
    entry: { ...entry, type: 'code-storage', ...(privateKeyFile === undefined ? {} : { privateKeyFile }) },
  }
}

/** The providers whose sandboxes can't reach a git host on this machine: all that are not on it themselves. */
function unreachableFrom(entries: readonly ProviderEntry[], storageUrl: string, environment: RealServiceOptions['environment']): string[] {
  if (!isLoopback(storageUrl)) return []
  const urlsOf: Readonly<Record<string, (entry: ProviderEntry) => unknown>> = {
    e2b: (entry) => entry['sandboxUrl'] ?? environment['E2B_SANDBOX_URL'],
    modal: (entry) => entry['serverUrl'] ?? environment['MODAL_SERVER_URL'],
    daytona: (entry) => entry['apiUrl'],
  }
  return entries.filter((entry) => urlsOf[entry.type] !== undefined && !isLoopback(urlsOf[entry.type]?.(entry))).map(({ name }) => name)
}

function isLoopback(url: unknown): boolean {
  if (typeof url !== 'string' || !URL.canParse(url)) return false
  const { hostname } = new URL(url)
  return hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
