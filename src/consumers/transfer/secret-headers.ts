import { InfrastructureError } from '../../job/errors.js'
import type { InjectedSecret, JobSpec } from '../../job/spec.js'
import type { Provider } from '../../providers/provider.js'
import type { InjectHeaders, Transfer } from './transfer.js'

/**
 * Secrets of a job that its sandbox never holds. Where the provider's account keeps one itself, the sandbox was made with a stand-in for it. Elsewhere the provider adds them, as headers, to what the sandbox sends to their hosts. They are
 * there from before the work tree is, so for all of the job's commands, and go with the sandbox. Whoever takes the job over leaves them.
 *
 * What runs in the sandbox can use them at these hosts, and can't read them. In place of its value a command has `placeholder` in its
 * environment, because most programs send no header without one.
 */

/** What stands in the environment for a value that is not there. */
export const placeholder = 'added-outside-of-the-sandbox'

type Headers = Parameters<InjectHeaders>[0]

export interface SecretInjectionParts {
  readonly provider: Pick<Provider, 'name' | 'refusal' | 'injectHeaders' | 'keptSecrets'>
  readonly sandboxId: string
  readonly secrets: readonly InjectedSecret[]
  readonly spec: Pick<JobSpec, 'resources' | 'network' | 'image'>
  readonly gitHosts: readonly string[]
  readonly callTimeoutMs: number
}

export interface SecretHeaders {
  /** For the environment of the job's commands. */
  readonly env: Readonly<Record<string, string>>
  /** Names of those that fell back to it. */
  readonly fallenBack: readonly string[]
  /** As the provider's, with the secrets beside what else is added; undefined where it adds none. */
  readonly injectHeaders: InjectHeaders | undefined
  /** Sees to it that they are there before the first command is. */
  within(transfer: Transfer): Transfer
}

/** Whether a sandbox of this provider has its own stand-in for a secret. */
export function keepsSecret({ injectHeaders, keptSecrets = [] }: Pick<Provider, 'injectHeaders' | 'keptSecrets'>, name: string): boolean {
  return injectHeaders === undefined && keptSecrets.includes(name)
}

export function secretHeaders({ provider, sandboxId, secrets: all, spec, gitHosts, callTimeoutMs }: SecretInjectionParts): SecretHeaders {
  const secrets = all.filter(({ name }) => !keepsSecret(provider, name))
  const inject = provider.injectHeaders?.bind(provider, sandboxId)
  const able = inject !== undefined && secrets.length > 0 && provider.refusal?.({ ...spec, gitHosts, injectsHeaders: true }) === undefined
  // Where it can't be and may not fall back the job was not to come, and does not get the value.
  const env = secrets.map(({ name, value, fallback }) => [name, able || fallback === undefined ? placeholder : value] as const)
  const injectHeaders: InjectHeaders | undefined = able ? (more, options) => inject(merged(headersOf(provider.name, secrets), more), options) : inject
  return {
    env: Object.fromEntries(env),
    fallenBack: able ? [] : secrets.flatMap(({ name, fallback }) => (fallback === undefined ? [] : [name])),
    injectHeaders,
    within(transfer) {
      if (!able || injectHeaders === undefined) return transfer
      return {
        ...transfer,
        async clone(request, options) {
          await injectHeaders({}, { timeoutMs: callTimeoutMs, signal: options.signal })
          return transfer.clone(request, options)
        },
      }
    },
  }
}

/** @throws InfrastructureError `invalid` for a value that no header can hold. */
function headersOf(source: string, secrets: readonly InjectedSecret[]): Headers {
  let headers: Headers = {}
  for (const { name, host, header, prefix = '', value } of secrets) {
    // Files end with a line end.
    const text = `${prefix}${value.trim()}`
    if (!/^[\x20-\x7e]*$/.test(text)) {
      const message = `${source}: the secret ${name} can't be a header: it holds a line end, or other characters than printable ASCII; give it another value, or give it without inject`
      throw new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source, message })
    }
    headers = merged(headers, { [host]: { [header]: text } })
  }
  return headers
}

/** `more` counts where both set the same header. */
function merged(headers: Headers, more: Headers): Headers {
  const hosts = [...new Set([...Object.keys(headers), ...Object.keys(more)].map((host) => host.toLowerCase()))]
  const of = (from: Headers, host: string) => Object.entries(from).flatMap(([name, byName]) => (name.toLowerCase() === host ? Object.entries(byName) : []))
  return Object.fromEntries(
    hosts.map((host) => {
      const later = of(more, host)
      const earlier = of(headers, host).filter(([header]) => !later.some(([name]) => name.toLowerCase() === header.toLowerCase()))
      return [host, Object.fromEntries([...earlier, ...later])]
    }),
  )
}
