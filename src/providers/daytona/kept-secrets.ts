import type { Daytona, Secret } from '@daytona/sdk'
import { InfrastructureError } from '../../job/errors.js'
import type { SandboxRequest } from '../provider.js'
import { isUnknownCall } from './classify.js'
import type { DaytonaProviderConfig } from './config.js'

/**
 * Secrets that the organisation keeps: a sandbox that is made with one has Daytona's placeholder in its environment, and Daytona puts in the value
 * in what the sandbox sends to the secret's hosts. One without hosts is sent to every host, so to one of the job's too: it is refused.
 */

type Config = Pick<DaytonaProviderConfig, 'name' | 'secrets'>

/** @throws InfrastructureError `invalid` when a job's secret is not the organisation's, or not for the host that the job names. */
export async function confirmSecrets(client: Pick<Daytona, 'secret'>, config: Config, { keptSecrets = [] }: Pick<SandboxRequest, 'keptSecrets'>): Promise<void> {
  for (const { name, host } of keptSecrets) {
    const problem = await secretProblem(client, config, name, host)
    if (problem !== undefined) throw new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: config.name, message: `${config.name}: ${problem}` })
  }
}

/** What is wrong with the organisation's secrets of the configuration, whatever a job wants of them. */
export async function secretProblems(client: Pick<Daytona, 'secret'>, config: Config): Promise<string[]> {
  const problems = await Promise.all(Object.keys(config.secrets ?? {}).map((name) => secretProblem(client, config, name)))
  return problems.filter((problem) => problem !== undefined)
}

async function secretProblem(client: Pick<Daytona, 'secret'>, { secrets = {} }: Config, name: string, host?: string): Promise<string | undefined> {
  const stored = secrets[name] ?? ''
  const secret = await find(client, stored)
  if (secret === undefined) return `secrets: the organisation has no secret "${stored}" for ${name}; make it at Daytona, with the hosts that it is for`
  const { hosts } = secret
  if (hosts.length === 0 || hosts.includes('*')) return `secrets: the organisation's secret "${stored}" may be sent to any host, so to one of a job's too; give it hosts at Daytona`
  if (host === undefined || hosts.some((each) => isFor(each, host))) return undefined
  return `secrets: the organisation's secret "${stored}" is for ${hosts.join(', ')}, and the job has ${name} for ${host}; name another host or secret`
}

function isFor(pattern: string, host: string): boolean {
  const [wanted, lower] = [host.toLowerCase(), pattern.toLowerCase()]
  return lower.startsWith('*.') ? wanted.endsWith(lower.slice(1)) : wanted === lower
}

/** As many pages as an organisation has of secrets whose names hold this one. */
const mostPages = 20

async function find(client: Pick<Daytona, 'secret'>, name: string): Promise<Secret | undefined> {
  let cursor: string | null = null
  for (let page = 0; page < mostPages; page++) {
    try {
      const { items, nextCursor } = await client.secret.list({ name, limit: 100, ...(cursor === null ? {} : { cursor }) })
      const found = items.find((each) => each.name === name)
      if (found !== undefined || nextCursor === null) return found
      cursor = nextCursor
    } catch (error) {
      // One that is hosted by oneself may know of none.
      if (isUnknownCall(error)) return undefined
      throw error
    }
  }
  return undefined
}
