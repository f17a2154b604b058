import { z } from 'zod'
import { InfrastructureError } from '../job/errors.js'
import type { SandboxRequest, SandboxWish } from './provider.js'

/** The most that one sandbox may have, for providers whose account says so and whose API does not. */
export const maxResourcesSchema = z
  .strictObject({
    cpu: z.number().positive('must be more than 0').optional(),
    memoryMiB: z.int('must be a whole number of MiB').positive('must be more than 0').optional(),
    diskMiB: z.int('must be a whole number of MiB').positive('must be more than 0').optional(),
  })
  .default({})
export type MaxResources = z.output<typeof maxResourcesSchema>

/**
 * @param has whose maximum it is, such as `the template "base"`.
 * @returns the problem with the first resource that is over its maximum, as a sentence without its beginning.
 */
export function overMaximum(resources: SandboxRequest['resources'], most: MaxResources, has: string): string | undefined {
  for (const field of ['cpu', 'memoryMiB', 'diskMiB'] as const) {
    const [asked, limit] = [resources[field], most[field]]
    if (asked !== undefined && limit !== undefined && asked > limit) return `resources.${field}: ${has} has at most ${limit} and the job asks for ${asked}`
  }
  return undefined
}

/** The sentence with which building a request is refused as `invalid`; undefined when it is not. */
export function refusalOf(build: () => unknown): string | undefined {
  try {
    build()
    return undefined
  } catch (error) {
    if (error instanceof InfrastructureError && error.kind === 'invalid') return error.message
    throw error
  }
}

/** A request for no more than `wish`, with which everything else is right. */
export function requestOf(wish: SandboxWish): SandboxRequest {
  return { image: wish.image, resources: wish.resources, network: wish.network, name: 'wish', tags: {}, lifetimeMs: 60_000, gitHosts: wish.gitHosts ?? ['git.invalid'] }
}
