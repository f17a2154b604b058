import { resolve } from 'node:path'
import { codeStorageConfigSchema, gitHostFromConfig, httpsGitConfigSchema, type GitHost } from '../git/index.js'
import { InvalidInputError } from '../job/errors.js'
import { checkOptions } from './providers.js'
import type { Config } from './schema.js'

export interface GitHostContext {
  /** What relative paths in the configuration are relative to. Default: the working directory. */
  readonly directory?: string
  readonly environment?: Readonly<Record<string, string | undefined>>
}

/**
 * Makes the configured git host.
 * @throws InvalidInputError with a sentence for every mistake, a missing key or token among them.
 */
export function createGitHost(entry: Config['git'], context: GitHostContext = {}): GitHost {
  if (entry === undefined) {
    throw new InvalidInputError('git: is missing; a consumer needs the host of the repositories, such as { type: "code-storage", org: "acme" }')
  }
  const environment = context.environment ?? process.env
  if (entry.type === 'https') return gitHostFromConfig(checkOptions(httpsGitConfigSchema, entry, 'git'), environment)
  const checked = checkOptions(codeStorageConfigSchema, entry, 'git')
  const privateKeyFile = checked.privateKeyFile === undefined ? undefined : resolve(context.directory ?? '.', checked.privateKeyFile)
  return gitHostFromConfig({ ...checked, privateKeyFile }, environment)
}
