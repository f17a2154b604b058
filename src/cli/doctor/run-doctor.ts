import { randomBytes } from 'node:crypto'
import { createGitHost } from '../../config/git-host.js'
import { withKeyFiles } from '../../config/key-files.js'
import { createProviders, type ConfiguredProvider } from '../../config/providers.js'
import type { Config } from '../../config/schema.js'
import { SecretPatterns } from '../../consumers/output/secret-patterns.js'
import { InvalidInputError } from '../../job/errors.js'
import { repositoryProblem } from '../../job/names.js'
import { redisSecrets } from '../../store/index.js'
import { checkArtifacts } from './check-artifacts.js'
import { checkGit } from './check-git.js'
import { checkProvider } from './check-provider.js'
import { checkRedis } from './check-redis.js'
import { checkWebhooks } from './check-webhooks.js'
import type { CheckResult, Subject } from './check-result.js'
import { Checklist } from './checklist.js'

export interface DoctorOptions {
  readonly config: Config
  /** What relative paths in the configuration are relative to. */
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Only these providers; all when empty. */
  readonly only: readonly string[]
  /** Cloned, and pushed to on a scratch branch that is deleted again. */
  readonly repository: string | undefined
  /** In place of the providers' own default. */
  readonly image: string | undefined
  /** The most that one check may take, in milliseconds; the configured deadlines otherwise. */
  readonly timeoutMs: number | undefined
  readonly signal: AbortSignal
  /** Called with the checks of each subject once they are done. */
  readonly onChecked?: (results: readonly CheckResult[]) => void
}

/**
 * Checks Redis, the git host and the providers, side by side.
 * @returns every check of every subject; nothing that was made for them is left when it returns, or a row says what may be.
 * @throws InvalidInputError for an unknown provider or a repository that can't be one.
 */
export async function runDoctor(given: DoctorOptions): Promise<CheckResult[]> {
  const options: DoctorOptions = { ...given, environment: withKeyFiles(given.environment, given.config.keyFiles, given.directory) }
  const { config, directory, environment, signal, repository } = options
  const problem = repository === undefined ? undefined : repositoryProblem(repository)
  if (problem !== undefined) throw new InvalidInputError(`--repository: "${repository ?? ''}" ${problem}`)
  const names = config.providers.map(({ name }) => name)
  const unknown = options.only.find((name) => !names.includes(name))
  if (unknown !== undefined) throw new InvalidInputError(`--provider: "${unknown}" is not configured; configured are: ${names.join(', ')}`)

  const runId = randomBytes(5).toString('hex')
  const secrets = secretsOf(config, environment)
  const { consumer } = config
  const most = (ms: number) => Math.min(ms, options.timeoutMs ?? Infinity)
  const timeouts = { createMs: most(consumer.createTimeoutMs), callMs: most(consumer.callTimeoutMs), gitMs: most(consumer.gitTimeoutMs) }
  const all: CheckResult[] = []
  const checking = async <Value>(subject: Subject, work: (list: Checklist) => Promise<Value>): Promise<Value> => {
    const list = new Checklist(subject, secrets, signal)
    const value = await work(list)
    all.push(...list.results)
    options.onChecked?.(list.results)
    return value
  }

  const providers = await usableProviders(options, checking)
  try {
    const git = checking({ kind: 'git', name: 'git' }, (list) =>
      checkGit(list, () => createGitHost(config.git, { directory, environment }), repository, { timeoutMs: timeouts.callMs, signal }),
    )
    const checks = [
      checking({ kind: 'redis', name: 'redis' }, (list) => checkRedis(list, config.redis, config.queue.prefix, { timeoutMs: timeouts.callMs, signal })),
      git,
      ...(config.artifacts === undefined ? [] : [checking({ kind: 'artifacts', name: 'artifacts' }, (list) => checkArtifacts(list, config.artifacts, { directory, environment, timeoutMs: timeouts.callMs, signal }))]),
      ...(config.webhooks.endpoints.length === 0 ? [] : [checking({ kind: 'webhooks', name: 'webhooks' }, (list) => checkWebhooks(list, { redis: config.redis, prefix: config.queue.prefix, endpoints: config.webhooks.endpoints }, timeouts.callMs))]),
      ...providers.map(({ provider, credentials }) =>
        checking({ kind: 'provider', name: provider.name, type: provider.kind }, (list) =>
          checkProvider(list, {
            provider,
            credentials: credentials ?? 'minted',
            gitHosts: gitHostsOf(options),
            deployment: config.deployment,
            runId,
            image: options.image,
            git,
            repository,
            timeouts,
            settings: { ...consumer, installTimeoutMs: most(consumer.installTimeoutMs) },
            secrets,
            signal,
          }),
        ),
      ),
    ]
    // Each to its end, whatever becomes of the others: their sandboxes are killed there.
    const failed = (await Promise.allSettled(checks)).find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return all
  } finally {
    await Promise.all(providers.map(({ provider }) => provider.close()))
  }
}

/** None when the git host's entry is wrong: its own check says so. */
function gitHostsOf({ config, directory, environment }: DoctorOptions): readonly string[] {
  try {
    return createGitHost(config.git, { directory, environment }).hosts
  } catch (error) {
    if (error instanceof InvalidInputError) return []
    throw error
  }
}

type Checking = <Value>(subject: Subject, work: (list: Checklist) => Promise<Value>) => Promise<Value>

/** Mistakes in the entries are a row each, so that the rest is checked all the same. */
async function usableProviders({ config, directory, environment, only }: DoctorOptions, checking: Checking): Promise<ConfiguredProvider[]> {
  const made: ConfiguredProvider[] = []
  const problems: string[] = []
  try {
    made.push(...(await createProviders(config.providers, { directory, environment })))
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    problems.push(...error.problems)
  }
  if (problems.length > 0) {
    await checking({ kind: 'provider', name: 'providers' }, async (list) => {
      for (const problem of problems) await list.run('configuration', () => Promise.reject(new InvalidInputError(problem)))
    })
  }
  const wanted = made.filter(({ provider }) => only.length === 0 || only.includes(provider.name))
  await Promise.all(made.filter((one) => !wanted.includes(one)).map(({ provider }) => provider.close()))
  return wanted
}

/**
 * What must never be printed: the values of all variables whose names the configuration gives, those that adapters read by
 * default, and Redis' password. No message should hold one; this is the second lock on the door.
 */
function secretsOf(config: Config, environment: DoctorOptions['environment']): SecretPatterns {
  const secrets = new SecretPatterns()
  const entries: object[] = [config.git ?? {}, config.artifacts ?? {}, ...config.providers]
  const fieldsOf = (entry: object): [string, unknown][] => Object.entries(entry)
  // Also those of what an entry holds, such as `s3` and `api`.
  const fields = entries.flatMap(fieldsOf).flatMap(([field, value]) => [[field, value] as const, ...(typeof value === 'object' && value !== null ? fieldsOf(value) : [])])
  const named = fields.filter(([field]) => field.endsWith('Env')).map(([, name]) => name)
  for (const name of ['E2B_API_KEY', 'MODAL_TOKEN_ID', 'MODAL_TOKEN_SECRET', 'DAYTONA_API_KEY', 'PIERRE_PRIVATE_KEY', ...named]) {
    // Short values such as "x" are no secrets, and hiding them would leave nothing to read.
    const value = typeof name === 'string' ? environment[name]?.trim() : undefined
    if (value !== undefined && value.length >= 6) secrets.add(value)
  }
  for (const secret of redisSecrets(config.redis)) secrets.add(secret)
  return secrets
}
