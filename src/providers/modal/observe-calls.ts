import { AsyncLocalStorage } from 'node:async_hooks'
import type { ModalClientParams } from 'modal'
import { z } from 'zod'
import { retryAfterMs } from './retry-policy.js'

/**
 * What the SDK's public interface does not offer for its calls to Modal's API, through the middleware that it does
 * offer: cancelling them, what the server says about waiting, and the fields of a listing that it drops.
 * Calls to a sandbox's own worker (exec) do not come by here.
 */
export interface CallObservation {
  /** Aborts the calls that are under way. */
  readonly signal: AbortSignal
  /** How long the server last asked to wait, in milliseconds. */
  retryAfterMs: number | undefined
  /** The sandboxes that were listed, by id. */
  readonly listed: Map<string, ListedSandbox>
}

interface ListedSandbox {
  /** Undefined when the server gives no tags with its listing. */
  readonly tags: Readonly<Record<string, string>> | undefined
  readonly name: string | undefined
  readonly createdAtMs: number | undefined
  readonly expiresAtMs: number | undefined
}

const current = new AsyncLocalStorage<CallObservation>()

/** Runs `work`; whatever the SDK calls in it is cancelled with the signal and noted in the observation. */
export function observed<Result>(observation: CallObservation, work: () => Promise<Result>): Promise<Result> {
  return current.run(observation, work)
}

type Middleware = NonNullable<ModalClientParams['grpcMiddleware']>[number]

/**
 * The middleware that makes `observed` work. It stands around the SDK's own, so a call passes it once, however often the SDK repeats it.
 * The call that fetches the access token is left alone: all other calls wait for the same one, and it has a deadline.
 */
export const observeCalls: Middleware = async function* observeCalls(call, options) {
  const observation = current.getStore()
  if (observation === undefined || call.method.path.endsWith('/AuthTokenGet')) return yield* call.next(call.request, options)
  const response = yield* call.next(call.request, {
    ...options,
    signal: options.signal === undefined ? observation.signal : AbortSignal.any([options.signal, observation.signal]),
    onTrailer: (trailer) => {
      const details = trailer.get('grpc-status-details-bin')
      if (details instanceof Uint8Array) observation.retryAfterMs = retryAfterMs(details)
      options.onTrailer?.(trailer)
    },
  })
  if (call.method.path.endsWith('/SandboxListV2')) noteListed(response, observation.listed)
  return response
}

/** The part of the listing's answer that the SDK does not hand on; a server that sends it otherwise is as good as silent. */
const listing = z.object({
  sandboxes: z.array(
    z.object({
      id: z.string(),
      name: z.string().optional().catch(undefined),
      createdAt: z.number().positive().optional().catch(undefined),
      timeoutSecs: z.number().positive().optional().catch(undefined),
      tags: z.array(z.object({ tagName: z.string(), tagValue: z.string() })).catch([]),
    }),
  ),
})

function noteListed(response: unknown, listed: Map<string, ListedSandbox>): void {
  const page = listing.safeParse(response)
  if (!page.success) return
  for (const { id, name, createdAt, timeoutSecs, tags } of page.data.sandboxes) {
    const createdAtMs = createdAt === undefined ? undefined : Math.round(createdAt * 1000)
    listed.set(id, {
      tags: tags.length === 0 ? undefined : Object.fromEntries(tags.map((tag) => [tag.tagName, tag.tagValue])),
      name: name === '' ? undefined : name,
      createdAtMs,
      expiresAtMs: createdAtMs === undefined || timeoutSecs === undefined ? undefined : createdAtMs + timeoutSecs * 1000,
    })
  }
}
