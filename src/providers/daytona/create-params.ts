import type { CreateSandboxFromImageParams, CreateSandboxFromSnapshotParams } from '@daytona/sdk'
import { InfrastructureError } from '../../job/errors.js'
import type { SandboxRequest } from '../provider.js'
import { overMaximum } from '../refusal.js'
import type { DaytonaProviderConfig } from './config.js'
import { daytonaNetwork } from './network.js'

/** `image: snapshot:NAME` in a job names a snapshot; anything else is a container image. */
const snapshotPrefix = 'snapshot:'

/** Resources as Daytona counts them: whole vCPU and GiB. */
export interface DaytonaResources {
  readonly cpu?: number
  readonly memory?: number
  readonly disk?: number
}

/**
 * Makes the SDK's create parameters of a request.
 *
 * How a sandbox ends when nobody is left to kill it:
 * - `ttlMinutes` destroys it at the end of its lifetime, whatever its state; `extend` sets it anew from then.
 * - `autoStopInterval: 0`: the default stops a sandbox after 15 minutes without API calls although its processes work,
 *   and a job outlives its consumer for longer than that when no other is there to take over.
 * - `autoDeleteInterval: 0`: one that stops all the same (by hand, by a fault) is deleted, since a stopped sandbox
 *   has lost its processes and would still cost disk.
 *
 * The parameters hold no environment: Daytona gives it back to everybody who may read the sandbox. Of secrets that it keeps itself they hold names.
 * @throws InfrastructureError `invalid` for what Daytona can't do.
 */
export function createParams(
  config: DaytonaProviderConfig,
  request: SandboxRequest,
): CreateSandboxFromImageParams | CreateSandboxFromSnapshotParams {
  if (config.maxLifetime !== undefined && request.lifetimeMs > config.maxLifetime) {
    throw new InfrastructureError({
      kind: 'invalid',
      source: config.name,
      message:
        `${config.name}: a lifetime of ${request.lifetimeMs} ms is above this provider's maxLifetime of ${config.maxLifetime} ms; ` +
        'shorten the job\'s timeout, or raise maxLifetime if the organisation allows more',
    })
  }
  const tooMuch = overMaximum(request.resources, config.maxResources, 'a sandbox of this organisation')
  if (tooMuch !== undefined) {
    throw new InfrastructureError({ kind: 'invalid', source: config.name, message: `${config.name}: ${tooMuch}; ask for less, or correct maxResources` })
  }
  const base = {
    name: request.name,
    // A copy: the SDK adds a label of its own to the object that it is given.
    labels: { ...request.tags },
    ttlMinutes: wholeMinutes(request.lifetimeMs),
    autoStopInterval: 0,
    autoDeleteInterval: 0,
    ...daytonaNetwork(config, request),
    ...(request.keptSecrets === undefined ? {} : { secrets: mountedSecrets(config, request) }),
  }
  const resources = wholeResources(request)
  const wanted = request.image ?? config.image ?? (config.snapshot === undefined ? undefined : snapshotPrefix + config.snapshot)
  if (wanted !== undefined && !wanted.startsWith(snapshotPrefix)) {
    return { ...base, image: wanted, ...(resources === undefined ? {} : { resources }) }
  }
  if (resources !== undefined) {
    throw new InfrastructureError({
      kind: 'invalid',
      source: config.name,
      message: `${config.name}: resources can't be set for a snapshot, which has its own; name a container image, or leave resources out`,
    })
  }
  return wanted === undefined ? base : { ...base, snapshot: wanted.slice(snapshotPrefix.length) }
}

/** The organisation's secrets by the names of the sandbox's variables. */
function mountedSecrets({ secrets = {} }: Pick<DaytonaProviderConfig, 'secrets'>, { keptSecrets = [] }: Pick<SandboxRequest, 'keptSecrets'>): Record<string, string> {
  return Object.fromEntries(keptSecrets.flatMap(({ name }) => (Object.hasOwn(secrets, name) ? [[name, secrets[name] ?? '']] : [])))
}

/** The image or snapshot of a request in words, for messages. */
export function imageInWords(config: DaytonaProviderConfig, request: SandboxRequest): string {
  const wanted = request.image ?? config.image
  if (wanted !== undefined && !wanted.startsWith(snapshotPrefix)) return `image "${wanted}"`
  const snapshot = wanted?.slice(snapshotPrefix.length) ?? config.snapshot
  return snapshot === undefined ? 'the organisation\'s default snapshot' : `snapshot "${snapshot}"`
}

/** Daytona counts lifetimes in minutes; rounded up, so that a sandbox never lives shorter than asked. */
export function wholeMinutes(lifetimeMs: number): number {
  return Math.max(1, Math.ceil(lifetimeMs / 60_000))
}

/** Rounded up to whole vCPU and GiB; undefined when the request sets none. */
export function wholeResources(request: Pick<SandboxRequest, 'resources'>): DaytonaResources | undefined {
  const { cpu, memoryMiB, diskMiB } = request.resources
  if (cpu === undefined && memoryMiB === undefined && diskMiB === undefined) return undefined
  return {
    ...(cpu === undefined ? {} : { cpu: Math.ceil(cpu) }),
    ...(memoryMiB === undefined ? {} : { memory: Math.ceil(memoryMiB / 1024) }),
    ...(diskMiB === undefined ? {} : { disk: Math.ceil(diskMiB / 1024) }),
  }
}
