import type { Logger } from 'pino'
import type { ArtifactStore } from '../artifacts/index.js'
import type { GitHost } from '../git/host.js'
import { InvalidInputError, errorMessage } from '../job/errors.js'
import { isRefusal, type KeyHealth } from './key-health.js'
import type { ProviderSlot } from './placing/provider-slot.js'
import { credentialsProblem } from './transfer/credentials.js'

/** What a consumer asks of those that it works with before its first job: each says what is wrong at once, and none but providers keeps it from starting. */

interface FirstCheck {
  /** How long one may take, in milliseconds. */
  readonly timeoutMs: number
  /** Aborted once the consumer leaves: then nothing is said any more. */
  readonly signal: AbortSignal
  readonly log: Logger
}

/** Said in the log and no more: jobs wait for a git host that is away, and those under way are taken over meanwhile. */
export async function checkGitHost(git: GitHost, health: KeyHealth, { log, ...options }: FirstCheck): Promise<void> {
  try {
    for (const warning of await git.check(options)) log.debug({ git: git.name }, warning)
  } catch (error) {
    if (options.signal.aborted) return
    if (isRefusal(error)) health.refused({ git: true }, error.message)
    log.error({ git: git.name, message: errorMessage(error) }, isRefusal(error) ? 'the git host refuses this consumer; it takes no jobs until it does not' : 'the git host does not answer; jobs wait for it')
  }
}

/** Said at the start, and not by the first job: one that can't be written to costs jobs their artifacts and nothing else. */
export async function checkArtifacts(store: ArtifactStore | undefined, { log, ...options }: FirstCheck): Promise<void> {
  if (store === undefined) return
  try {
    for (const warning of await store.check(options)) log.warn({ store: store.name }, warning)
  } catch (error) {
    if (!options.signal.aborted) log.error({ store: store.name, message: errorMessage(error) }, 'artifacts can’t be stored; jobs list them as missed until that is mended')
  }
}

/**
 * A provider that refuses this consumer is said, and used once it does not; one usable provider is enough.
 * @returns all of them, by name.
 * @throws InvalidInputError for names or credentials that can't work; what the last one said when none is usable.
 */
export async function usableProviders(slots: readonly ProviderSlot[], health: KeyHealth, { timeoutMs, log }: Omit<FirstCheck, 'signal'>): Promise<Map<string, ProviderSlot>> {
  const usable = new Map<string, ProviderSlot>()
  let last: unknown
  for (const slot of slots) {
    const { name } = slot.provider
    if (usable.has(name)) throw new InvalidInputError(`providers: the name "${name}" is used twice; give each provider a name of its own`)
    const problem = credentialsProblem('credentials', slot.provider, slot.credentials)
    if (problem !== undefined) throw new InvalidInputError(problem)
    usable.set(name, slot)
    try {
      for (const warning of await slot.provider.check({ timeoutMs })) log.warn({ provider: name }, warning)
    } catch (error) {
      last = error
      if (isRefusal(error)) health.refused({ provider: name }, error.message)
      log.error({ provider: name, message: errorMessage(error) }, isRefusal(error) ? 'provider is not usable; left out until it is' : 'provider does not answer; tried again with each job')
    }
  }
  if ([...usable.keys()].some((provider) => !health.isRefused({ provider }))) return usable
  if (last instanceof Error) throw last
  throw new InvalidInputError('providers: none is configured; configure at least one')
}
