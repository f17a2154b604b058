import { z } from 'zod'
import { InfrastructureError } from '../../job/errors.js'
import type { SandboxInfo, SandboxRequest } from '../provider.js'
import type { DockerProviderConfig } from './config.js'

/** A sandbox's tags are labels with this before them, so that the image's own labels are none. */
const tagPrefix = 'dev.switchyard.tag.'
/** Marks this adapter's containers, with the provider's configured name: an engine has others too. */
const providerLabel = 'dev.switchyard.provider'

/**
 * A container has no lifetime of its own, so its first process ends at a time that `extend` moves: it sleeps to the end that
 * it read last and looks again. With it every process of the container ends, and the engine removes it. While it waits,
 * the shell also takes in the exit of orphans, as a container's first process must.
 */
export const deadlineFile = '/dev/shm/.switchyard-deadline'
const holderScript = `echo $(($(date +%s) + $1)) >${deadlineFile} || exit 1
while left=$(($(cat ${deadlineFile}) - $(date +%s))); [ "$left" -gt 0 ]; do sleep "$left"; done`

/** Only ever lengthens. */
export function extendScript(lifetimeMs: number): string {
  return `until=$(($(date +%s) + ${Math.ceil(lifetimeMs / 1000)})); [ "$until" -le "$(cat ${deadlineFile})" ] || { echo "$until" >${deadlineFile}.new && mv ${deadlineFile}.new ${deadlineFile}; }`
}

/**
 * The body of a container's create.
 * @throws InfrastructureError `invalid` for what an engine can't do or the configuration does not allow.
 */
export function createBody(config: DockerProviderConfig, request: SandboxRequest): Record<string, unknown> {
  const { cpu, memoryMiB, diskMiB } = request.resources
  const refuse = (problem: string) => new InfrastructureError({ kind: 'invalid', source: config.name, message: `${config.name}: create: ${problem}` })
  if (diskMiB !== undefined) throw refuse('resources.diskMiB: this engine has no disk quotas; leave it out or use another provider')
  if (cpu !== undefined && config.cpu !== undefined && cpu > config.cpu) throw refuse(`resources.cpu: the job asks for ${cpu} and a sandbox may have ${config.cpu}; ask for less`)
  if (memoryMiB !== undefined && config.memoryMiB !== undefined && memoryMiB > config.memoryMiB) {
    throw refuse(`resources.memoryMiB: the job asks for ${memoryMiB} and a sandbox may have ${config.memoryMiB}; ask for less`)
  }
  if (request.network !== 'open' && request.network !== 'none') {
    throw refuse('network: an engine can only open it or take it away; use "open" or "none", or another provider')
  }
  const cpus = cpu ?? config.cpu
  const memory = memoryMiB ?? config.memoryMiB
  return {
    Image: request.image ?? config.image,
    Entrypoint: ['/bin/sh', '-c', holderScript, 'switchyard', String(Math.ceil(request.lifetimeMs / 1000))],
    Cmd: [],
    ...(config.user === undefined ? {} : { User: config.user }),
    Labels: { [providerLabel]: config.name, ...Object.fromEntries(Object.entries(request.tags).map(([key, value]) => [tagPrefix + key, value])) },
    HostConfig: {
      AutoRemove: true,
      NetworkMode: request.network === 'none' ? 'none' : config.network,
      PidsLimit: config.maxProcesses,
      ...(config.newPrivileges ? {} : { SecurityOpt: ['no-new-privileges'] }),
      ...(cpus === undefined ? {} : { NanoCpus: Math.round(cpus * 1e9) }),
      // The same for swap: memory that is over is not to be found on the disk.
      ...(memory === undefined ? {} : { Memory: memory * 1024 * 1024, MemorySwap: memory * 1024 * 1024 }),
      ...(config.runtime === undefined ? {} : { Runtime: config.runtime }),
    },
  }
}

/** The query that lists a provider's containers with these tags, those too that were made and never started. */
export function listPath(provider: string, tags: Readonly<Record<string, string>>): string {
  const label = [`${providerLabel}=${provider}`, ...Object.entries(tags).map(([key, value]) => `${tagPrefix}${key}=${value}`)]
  return `/containers/json?all=true&filters=${encodeURIComponent(JSON.stringify({ label }))}`
}

const labelsSchema = z.record(z.string(), z.string()).nullish().transform((labels) => labels ?? {})

export const inspectSchema = z.object({
  Id: z.string(),
  Name: z.string(),
  Created: z.string(),
  State: z.object({ Status: z.string() }),
  Config: z.object({ Labels: labelsSchema }),
})
export const listSchema = z.array(z.object({ Id: z.string(), Names: z.array(z.string()), Created: z.number(), State: z.string(), Labels: labelsSchema }))

/** "created" counts as live: it is there, and may be started yet. */
const endedStates: readonly string[] = ['exited', 'dead', 'removing', 'stopped', 'stopping']

/** @returns undefined for a container that has ended, or is none of this provider's. */
export function toInfo(provider: string, raw: { id: string; name: string; createdAtMs: number; state: string; labels: Readonly<Record<string, string>> }): SandboxInfo | undefined {
  if (endedStates.includes(raw.state) || raw.labels[providerLabel] !== provider) return undefined
  const tags = Object.entries(raw.labels).flatMap(([key, value]) => (key.startsWith(tagPrefix) ? [[key.slice(tagPrefix.length), value]] : []))
  return {
    id: raw.id,
    name: raw.name.replace(/^\//, ''),
    tags: Object.fromEntries(tags) as Record<string, string>,
    createdAtMs: Number.isNaN(raw.createdAtMs) ? undefined : raw.createdAtMs,
    // The engine does not know of it.
    expiresAtMs: undefined,
  }
}
