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
  const path = (file: string | undefined) => (file === undefined ? undefined : resolve(context.directory ?? '.', file))
  const checked = entry.type === 'https' ? checkOptions(httpsGitConfigSchema, entry, 'git') : checkOptions(codeStorageConfigSchema, entry, 'git')
  const signing = checked.signing === undefined ? undefined : { ...checked.signing, keyFile: path(checked.signing.keyFile) }
  if (checked.type === 'https') return gitHostFromConfig({ ...checked, signing }, environment)
  return gitHostFromConfig({ ...checked, signing, privateKeyFile: path(checked.privateKeyFile) }, environment)
}
