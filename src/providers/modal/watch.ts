import { InfrastructureError } from '../../job/errors.js'

/**
 * Runs `check` once after a while. `failed` rejects when it throws an `InfrastructureError` and stays pending otherwise:
 * a check that could not be made says nothing.
 */
export function watchOnce(afterMs: number, check: () => Promise<void>): { readonly failed: Promise<never>; stop(): void } {
  let timer: NodeJS.Timeout | undefined
  const failed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      check().catch((error: unknown) => {
        if (error instanceof InfrastructureError) reject(error)
      })
    }, afterMs)
  })
  // It may fail when nobody waits for it any more.
  failed.catch(() => undefined)
  return { failed, stop: () => clearTimeout(timer) }
}
