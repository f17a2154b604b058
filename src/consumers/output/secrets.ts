import type { InjectedSecret, SecretInjection } from '../../job/spec.js'
import { isShortSecret, SecretPatterns } from './secret-patterns.js'

/** Looks a secret's value up, anew each time; undefined when there is none of that name. */
export interface SecretSource {
  (name: string): string | undefined
  /** The names of those that have a value now. Other consumers learn them; without this method every name may be there. */
  readonly names?: () => readonly string[]
}

/**
 * Secrets from this process's environment, only those whose names are listed: a job must not be able to name the
 * consumer's own credentials.
 */
export function secretsFromEnvironment(allowed: readonly string[], environment: NodeJS.ProcessEnv = process.env): SecretSource {
  const names = new Set(allowed)
  const read = (name: string) => (names.has(name) ? environment[name] : undefined)
  return Object.assign(read, { names: () => [...names].filter((name) => (read(name) ?? '') !== '').sort() })
}

export interface ResolvedSecrets {
  /** What commands get in their environment. */
  readonly env: Readonly<Record<string, string>>
  /** What the sandbox never holds, where its provider can; see `../transfer/secret-headers.ts`. */
  readonly injected: readonly InjectedSecret[]
  readonly patterns: SecretPatterns
  /** Names of those that are too short to be masked other than as whole words. */
  readonly short: readonly string[]
}

/**
 * Finds every secret that a job names, before a sandbox is created for it.
 * @returns the names of those that are missing beside what was found.
 */
export function resolveSecrets(names: readonly string[], source: SecretSource, injects: readonly SecretInjection[] = []): { readonly found: ResolvedSecrets; readonly missing: readonly string[] } {
  const patterns = new SecretPatterns()
  const env: Record<string, string> = {}
  const injected: InjectedSecret[] = []
  const short: string[] = []
  const missing: string[] = []
  for (const name of names) {
    const value = source(name)
    if (value === undefined || value === '') {
      missing.push(name)
      continue
    }
    const injection = injects.find((each) => each.name === name)
    if (injection === undefined) env[name] = value
    else injected.push({ ...injection, value })
    patterns.add(value)
    if (isShortSecret(value)) short.push(name)
  }
  return { found: { env, injected, patterns, short }, missing }
}
