/**
 * Waits for `promise`, but no longer than until `signal` aborts; then throws the signal's reason. A command that waits
 * for Redis to come back can't be taken back: ioredis keeps it even when its connection is closed between two attempts.
 */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  // The loser of the race may still fail, and nobody listens to it any more.
  promise.catch(() => undefined)
  try {
    return await Promise.race([promise, aborted])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}

/** A controller of the caller's own that aborts as well when `signal` does, until it is released. Every job needs some; AbortSignal.any costs several times as much. */
export function controllerUnder(signal: AbortSignal): { readonly controller: AbortController; readonly release: () => void } {
  const controller = new AbortController()
  const follow = () => controller.abort(signal.reason)
  if (signal.aborted) follow()
  else signal.addEventListener('abort', follow, { once: true })
  return { controller, release: () => signal.removeEventListener('abort', follow) }
}
