import { InfrastructureError } from '../../job/errors.js'
import { SecretPatterns } from './redaction.js'

/** Looks a secret's value up; undefined when there is none of that name. */
export type SecretSource = (name: string) => string | undefined

/**
 * Secrets from this process's environment, only those whose names are listed: a job must not be able to name the
 * consumer's own credentials.
 */
export function secretsFromEnvironment(allowed: readonly string[], environment: NodeJS.ProcessEnv = process.env): SecretSource {
  const names = new Set(allowed)
  return (name) => (names.has(name) ? environment[name] : undefined)
}

export interface ResolvedSecrets {
  readonly env: Readonly<Record<string, string>>
  readonly patterns: SecretPatterns
}

/**
 * Finds every secret that a job names, before a sandbox is created for it.
 * @throws InfrastructureError `invalid` that names the missing ones and the mend.
 */
export function resolveSecrets(names: readonly string[], source: SecretSource): ResolvedSecrets {
  const patterns = new SecretPatterns()
  const env: Record<string, string> = {}
  const missing: string[] = []
  for (const name of names) {
    const value = source(name)
    if (value === undefined || value === '') {
      missing.push(name)
      continue
    }
    env[name] = value
    patterns.add(value)
  }
  if (missing.length > 0) {
    throw new InfrastructureError({
      kind: 'invalid',
      owner: 'consumer-keys',
      source: 'secrets',
      message: `secrets: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not available to this consumer; set and allow it in consumer.secrets, or take it out of the spec`,
    })
  }
  return { env, patterns }
}
