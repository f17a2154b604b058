import { z } from 'zod'
import { InfrastructureError } from '../../job/errors.js'
import type { SandboxInfo, SandboxRequest } from '../provider.js'
import type { DockerProviderConfig } from './config.js'
import { signedDeadline } from './keeper.js'

/** A sandbox's tags are labels with this before them, so that the image's own labels are none. */
const tagPrefix = 'dev.switchyard.tag.'
/** Marks this adapter's containers, with the provider's configured name: an engine has others too. */
const providerLabel = 'dev.switchyard.provider'

/** When the container is to end at first, in seconds since 1970; the key that signs every later time; and where that is written. See keeper.ts. */
const deadlineLabel = 'dev.switchyard.deadline'
const keyLabel = 'dev.switchyard.deadline-key'
const fileLabel = 'dev.switchyard.deadline-file'

/**
 * A container's first process ends at a time that `extend` moves: it sleeps to the end that it read last and looks again. With it every
 * process of the container ends, and the engine removes it. While it waits, the shell also takes in the exit of orphans, as a container's
 * first process must. A job may stop it or move its time: then the keeper (keeper.ts) ends the container.
 */
const deadlineFile = '/dev/shm/.switchyard-deadline'
const holderScript = `echo "$1" >${deadlineFile} || exit 1
while read -r until _ <${deadlineFile} && left=$((until - $(date +%s))) && [ "$left" -gt 0 ]; do sleep "$left"; done`

/** Whether a container that was made and never started would end too early: its first process counts from when it was made. */
export function isStale(raw: z.output<typeof inspectSchema>, lifetimeMs: number, nowMs: number): boolean {
  return raw.State.Status === 'created' && Number(raw.Config.Labels[deadlineLabel]) * 1000 < nowMs + lifetimeMs / 2
}

/** The key that signs a container's deadlines; undefined for one that an earlier release made, or that is gone. */
export function deadlineKeyOf(raw: z.output<typeof inspectSchema> | undefined): string | undefined {
  return raw?.Config.Labels[keyLabel]
}

/** Writes the deadline, in seconds since 1970. Only ever lengthens. */
export function extendScript(seconds: number, key: string | undefined): string {
  const line = key === undefined ? String(seconds) : signedDeadline(seconds, key)
  return `read -r until _ <${deadlineFile} && [ ${seconds} -le "$until" ] || { echo '${line}' >${deadlineFile}.new && mv ${deadlineFile}.new ${deadlineFile}; }`
}

/**
 * The body of a container's create.
 * @param at when it is made, in milliseconds since 1970, and the key that signs its later deadlines.
 * @throws InfrastructureError `invalid` for what an engine can't do or the configuration does not allow.
 */
export function createBody(config: DockerProviderConfig, request: SandboxRequest, at: { readonly nowMs: number; readonly key: string }): Record<string, unknown> {
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
  const deadline = Math.ceil((at.nowMs + request.lifetimeMs) / 1000)
  return {
    Image: request.image ?? config.image,
    Entrypoint: ['/bin/sh', '-c', holderScript, 'switchyard', signedDeadline(deadline, at.key)],
    Cmd: [],
    ...(config.user === undefined ? {} : { User: config.user }),
    Labels: {
      [providerLabel]: config.name,
      [deadlineLabel]: String(deadline),
      [keyLabel]: at.key,
      [fileLabel]: deadlineFile,
      ...Object.fromEntries(Object.entries(request.tags).map(([key, value]) => [tagPrefix + key, value])),
    },
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

/** About to go by itself. */
const goingStates: readonly string[] = ['removing', 'stopping']
/** Nothing runs in it any more. An engine that was killed itself, or its machine, may leave it so, with its name and its disk. */
const endedStates: readonly string[] = ['exited', 'dead', 'stopped']

interface RawContainer {
  readonly id: string
  readonly name: string
  readonly createdAtMs: number
  readonly state: string
  readonly labels: Readonly<Record<string, string>>
}

/** @returns undefined for a container that has ended, or is none of this provider's. "created" counts as live: it is there, and may be started yet. */
export function toInfo(provider: string, raw: RawContainer): SandboxInfo | undefined {
  return endedStates.includes(raw.state) ? undefined : leftInfo(provider, raw)
}

/** As `toInfo`, but also for what has ended and is still to be removed. */
export function leftInfo(provider: string, raw: RawContainer): SandboxInfo | undefined {
  if (goingStates.includes(raw.state) || raw.labels[providerLabel] !== provider) return undefined
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
