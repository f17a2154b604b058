import { InfrastructureError } from '../job/errors.js'
import type { CallOptions } from './provider.js'

/**
 * Runs an SDK's call under our own deadline and cancellation, whatever the SDK itself honours. `call` gets a signal
 * that aborts at either; when the call does not settle by then, its result is dropped and this throws.
 * @throws InfrastructureError `timeout` at the deadline; the signal's own reason when it was cancelled.
 */
export async function bounded<Result>(
  source: string,
  what: string,
  options: CallOptions,
  call: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  options.signal?.throwIfAborted()
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const ended = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const error = new InfrastructureError({ kind: 'timeout', source, message: `${source}: ${what} did not answer within ${options.timeoutMs} ms` })
      reject(error)
      controller.abort(error)
    }, options.timeoutMs)
    onAbort = () => {
      const reason: unknown = options.signal?.reason
      reject(reason instanceof Error ? reason : new Error(String(reason)))
      controller.abort(reason)
    }
    options.signal?.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([call(controller.signal), ended])
  } finally {
    clearTimeout(timer)
    if (onAbort !== undefined) options.signal?.removeEventListener('abort', onAbort)
  }
}
