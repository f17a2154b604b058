import { InvalidInputError } from '../../job/errors.js'

/**
 * What plays the providers in a demo. Pure: flags and environment go in, the choice comes out.
 *
 * - `local`: two providers on this machine, when no others are named.
 * - `protocol servers`: servers that speak the named providers' wire protocols, from a checkout's test/servers.
 * - `real`: the services themselves. Only when `--real` or `--config` says so, or when every key that they need is in the
 *   environment and `--no-real` does not say otherwise.
 */
export type Services =
  | { readonly kind: 'local' }
  /** `missing`: the variables for want of which the services themselves are not used; empty with `--no-real`. */
  | { readonly kind: 'protocol servers'; readonly names: readonly string[]; readonly missing: readonly string[] }
  | { readonly kind: 'real'; readonly names: readonly string[] }

/** The provider that needs no service. */
const local = 'local'
const keysOf: Readonly<Record<string, readonly string[]>> = {
  e2b: ['E2B_API_KEY'],
  modal: ['MODAL_TOKEN_ID', 'MODAL_TOKEN_SECRET'],
  daytona: ['DAYTONA_API_KEY'],
  [local]: [],
}
/** The names that `--providers` may have without a configuration. */
export const demoProviderNames: readonly string[] = Object.keys(keysOf)

/** The organisation at Code Storage in which a demo at the services themselves makes its repository, and its private key. */
export const organisationVariable = 'PIERRE_ORG'
const privateKeyVariable = 'PIERRE_PRIVATE_KEY'

export interface ServiceFlags {
  /** As given: names with commas. */
  readonly providers?: string | undefined
  readonly real?: boolean | undefined
  readonly config?: string | undefined
}

/** @throws InvalidInputError with a sentence for every mistake, and with `--real` for every variable that is missing. */
export function chooseServices(flags: ServiceFlags, environment: Readonly<Record<string, string | undefined>>): Services {
  if (flags.providers === undefined) {
    const flag = flags.config === undefined ? (flags.real === undefined ? undefined : '--real') : '--config'
    if (flag !== undefined) throw new InvalidInputError(`${flag}: is about providers that are named; add --providers, such as --providers e2b,modal,daytona`)
    return { kind: 'local' }
  }
  const names = flags.providers.split(',').map((name) => name.trim()).filter((name) => name !== '')
  const unknown = names.find((name) => flags.config === undefined && !demoProviderNames.includes(name))
  if (unknown !== undefined) {
    throw new InvalidInputError(`--providers: "${unknown}" is none of ${demoProviderNames.join(', ')}; name those, or give a configuration that has it with --config`)
  }
  if (new Set(names).size < Math.max(2, names.length)) {
    throw new InvalidInputError('--providers: give at least two, each once, so that there is another one to go on at, such as --providers e2b,modal,daytona')
  }
  if (flags.config !== undefined) return { kind: 'real', names }
  if (flags.real === false) return { kind: 'protocol servers', names, missing: [] }
  const missing = [...names.flatMap((name) => keysOf[name] ?? []), organisationVariable, privateKeyVariable].filter((name) => (environment[name] ?? '').trim() === '')
  if (missing.length === 0) return { kind: 'real', names }
  if (flags.real !== true) return { kind: 'protocol servers', names, missing }
  const problems = missing.map((name) => `--real: the environment variable ${name} is not set; ${mend(name, names)}`)
  throw new InvalidInputError(problems[0] ?? '', problems)
}

function mend(variable: string, names: readonly string[]): string {
  if (variable !== organisationVariable && variable !== privateKeyVariable) return 'put the key of that name there'
  const services = names.filter((name) => name !== local).join(', ')
  return `a sandbox at ${services} can’t reach a Code Storage on this machine, so put the name of an organisation at Code Storage into ${organisationVariable} and its private key into ${privateKeyVariable}`
}
