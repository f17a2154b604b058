import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { apiPaths } from './code-storage-client.js'
import { CodeStorageHost } from './code-storage.js'
import type { GitHost } from './host.js'
import { HttpsGitHost, type TokenCallback } from './https-host.js'
import { tokenAlgorithms } from './mint.js'
import { forgeKinds } from './pull-requests/pull-requests.js'
import { signingFormats, signingModes, type SigningOptions } from './signature.js'

const environmentName = z.string().regex(/^[A-Za-z_]\w*$/, 'must be the name of an environment variable')
const url = z.string({ error: 'must be a URL such as "https://git.example.com"' }).min(1, 'is empty')
const identity = z.strictObject({ name: z.string().min(1).describe('A name as in a commit.'), email: z.string().min(3).describe('An address as in a commit.') })
const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and "-"').optional()

/** How the commits of jobs are signed, in the configuration. The key itself is never in it. */
const signing = z
  .strictObject({
    format: z.enum(signingFormats, { error: 'must be "ssh" or "openpgp"' }).default('ssh').describe('What kind of key signs.'),
    mode: z.enum(signingModes, { error: 'must be "add" or "rewrite"' }).default('add').describe('add: the commit that Switchyard adds is signed; rewrite: the job’s commits are made anew, each signed.'),
    keyFile: z.string().min(1, 'is empty; leave it out or give a path').optional().describe('The file that holds the key.'),
    keyEnv: environmentName.optional().describe('The environment variable that holds the key.'),
    committer: identity.optional().describe('Whom signed commits name as their committer.'),
    verifyAtTarget: z.boolean().default(false).describe('Whether what a promotion puts on its target is checked there to be signed.'),
    provenance: z.boolean().default(false).describe('Whether a statement of where the work came from is signed and kept beside it.'),
    publicKeys: z.array(z.string().regex(/^\s*(ssh-|ecdsa-|sk-|-----BEGIN PGP PUBLIC KEY)/, 'must be an SSH public key, or an armored OpenPGP one')).default([]).describe('Older keys, whose signatures are good as well.'),
  })
  .refine((config) => (config.keyFile === undefined) !== (config.keyEnv === undefined), {
    path: ['keyFile'],
    message: 'give either keyFile (a path) or keyEnv (the name of an environment variable)',
  })
export type SigningConfig = z.output<typeof signing>

/** Code Storage in the configuration. It names where the key is; the key itself is never in it, so it may be logged. */
export const codeStorageConfigSchema = z
  .strictObject({
    type: z.literal('code-storage').default('code-storage'),
    name: name.describe('By which logs and errors call it.'),
    org: z
      .string({ error: 'is missing; give your organisation’s name at Code Storage' })
      .regex(/^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/, 'must be letters, digits and "-", as in https://<org>.code.storage')
      .describe('Your organisation’s name there.'),
    privateKeyFile: z.string().min(1, 'is empty; leave it out or give a path').optional().describe('The file that holds the key that signs tokens.'),
    privateKeyEnv: environmentName.optional().describe('The environment variable that holds the key. Default PIERRE_PRIVATE_KEY.'),
    algorithm: z.enum(tokenAlgorithms, { error: 'must be "ES256", "RS256" or "EdDSA"' }).default('ES256').describe('How tokens are signed.'),
    kid: z.string().min(1, 'is empty; leave it out').optional().describe('The key’s id in the tokens.'),
    storageUrl: url.optional().describe('Where git is spoken to, where it is not https://ORG.code.storage.'),
    apiUrl: url.optional().describe('Where the API is, where it is not Code Storage’s own.'),
    apiPaths: z.enum(apiPaths, { error: 'must be "v1" or "repos"' }).default('v1').describe('Which addresses of the API are called: /api/v1, or /api/repos, which its maker prefers.'),
    mergeAuthor: identity.optional().describe('Whom a promotion’s merge commit names as its author.'),
    signing: signing.optional().describe('Work is signed with a key that no sandbox sees; see docs/security.md.'),
  })
  .refine((config) => config.privateKeyFile === undefined || config.privateKeyEnv === undefined, {
    path: ['privateKeyFile'],
    message: 'is given beside privateKeyEnv; give one of the two',
  })
export type CodeStorageConfig = z.output<typeof codeStorageConfigSchema>

const isFunction = (value: unknown): value is TokenCallback => typeof value === 'function'

/** Any HTTPS git host in the configuration: with a callback (in a TypeScript file), or a fixed token in the environment. */
export const httpsGitConfigSchema = z
  .strictObject({
    type: z.literal('https').default('https'),
    name: name.describe('By which logs and errors call it.'),
    url: url.describe('The host’s address; repositories are beneath it.'),
    token: z.custom<TokenCallback>(isFunction, 'must be a function (repository, "read" | "write") => Promise<{ username, token }>').optional().describe('A function that makes tokens: (repository, "read" or "write") => Promise<{ username, token }>.'),
    tokenEnv: environmentName.optional().describe('The environment variable that holds one token for everything. A callback that makes short-lived ones is safer.'),
    username: z.string().min(1).default('x-access-token').describe('The user name that goes with tokenEnv.'),
    api: z
      .strictObject({
        kind: z.enum(forgeKinds, { error: 'must be "github", "gitlab" or "bitbucket"' }).describe('Whose API it is.'),
        url: url.optional().describe('Base of the API, where it is not where such hosts have it.'),
        tokenEnv: environmentName.optional().describe('The environment variable that holds a key for the API alone. Left out: the token that pushes.'),
        username: z.string().min(1).default('x-token-auth').describe('The user name that goes with tokenEnv at Bitbucket.'),
      })
      .optional()
      .describe('The host’s own API, for pull requests. Known for github.com, gitlab.com and bitbucket.org.'),
    mergeAuthor: identity.optional().describe('Whom a promotion’s merge commit names as its author.'),
    signing: signing.optional().describe('Work is signed with a key that no sandbox sees; see docs/security.md.'),
  })
  .refine((config) => (config.token === undefined) !== (config.tokenEnv === undefined), {
    path: ['token'],
    message: 'give either token (a function) or tokenEnv (the name of an environment variable)',
  })
export type HttpsGitConfig = z.output<typeof httpsGitConfigSchema>

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Makes the host that a checked configuration names.
 * @throws InvalidInputError when the key or token is not where the configuration says, or can't be used.
 */
export function gitHostFromConfig(config: CodeStorageConfig | HttpsGitConfig, env: Environment = process.env): GitHost {
  return config.type === 'code-storage' ? codeStorageFromConfig(config, env) : httpsFromConfig(config, env)
}

function codeStorageFromConfig(config: CodeStorageConfig, env: Environment): GitHost {
  const { type: _type, privateKeyFile, privateKeyEnv, signing: signed, ...options } = config
  return new CodeStorageHost({ ...options, signing: signingOf(signed, env), privateKey: () => (privateKeyFile === undefined ? keyFromEnvironment(privateKeyEnv, env) : keyFromFile(privateKeyFile)) })
}

function httpsFromConfig(config: HttpsGitConfig, env: Environment): GitHost {
  const { tokenEnv, username } = config
  const callback = config.token ?? (async () => ({ username, token: fromEnvironment('git.tokenEnv', tokenEnv ?? '', env) }))
  // Asked for at once, so that a missing variable is known at the start and not in the first job.
  if (tokenEnv !== undefined) fromEnvironment('git.tokenEnv', tokenEnv, env)
  const { kind, url: apiUrl, tokenEnv: apiTokenEnv, username: apiUsername = '' } = config.api ?? {}
  if (apiTokenEnv !== undefined) fromEnvironment('git.api.tokenEnv', apiTokenEnv, env)
  const apiToken = apiTokenEnv === undefined ? undefined : async () => ({ username: apiUsername, token: fromEnvironment('git.api.tokenEnv', apiTokenEnv, env) })
  const api = kind === undefined ? undefined : { kind, url: apiUrl, token: apiToken }
  return new HttpsGitHost({ api, name: config.name, url: config.url, token: callback, sharedToken: tokenEnv !== undefined, mergeAuthor: config.mergeAuthor, signing: signingOf(config.signing, env) })
}

function signingOf(config: SigningConfig | undefined, env: Environment): SigningOptions | undefined {
  if (config === undefined) return undefined
  const { keyFile, keyEnv, ...options } = config
  const key = () => (keyFile === undefined ? fromEnvironment('git.signing.keyEnv', keyEnv ?? '', env) : keyFromFile(keyFile, 'git.signing.keyFile'))
  // Missed at the start, and not in the first job.
  key()
  return { ...options, key }
}

function keyFromEnvironment(variable = 'PIERRE_PRIVATE_KEY', env: Environment): string {
  return fromEnvironment('git.privateKeyEnv', variable, env)
}

function fromEnvironment(field: string, variable: string, env: Environment): string {
  const value = env[variable]
  if (value === undefined || value === '') throw new InvalidInputError(`${field}: the environment variable ${variable} is not set`)
  return value
}

function keyFromFile(path: string, field = 'git.privateKeyFile'): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new InvalidInputError(`${field}: "${path}" can’t be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}
