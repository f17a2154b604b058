import { exitCodes } from './exit-codes.js'

/**
 * Turns Ctrl-C (SIGINT), SIGTERM and SIGHUP into an AbortSignal, so that what was started is stopped in order. A second
 * signal ends the process at once, for somebody who can't wait. A pipe whose reader has gone (head, a pager) is a stop without a signal,
 * about which nothing is said: nobody reads it.
 */
export interface StopSignal extends Disposable {
  readonly signal: AbortSignal
  /** The signal that came, when one did. */
  readonly received: NodeJS.Signals | undefined
}

/** Those who have something to take down before the process ends. */
const listening = new Set<AbortController>()
let closed = false

/** Whoever reads has seen enough: ends what runs, or the process when nothing has to be taken down. */
export function pipeClosed(): void {
  closed = true
  if (listening.size === 0) process.exit(exitCodes.ok)
  for (const controller of listening) controller.abort(new Error('the reader of the output has gone'))
}

/** Whether the reader has gone, after which nothing that goes wrong is of interest. */
export function isPipeClosed(): boolean {
  return closed
}

export function listenForStop(): StopSignal {
  const controller = new AbortController()
  let received: NodeJS.Signals | undefined
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']
  const onSignal = (name: NodeJS.Signals) => {
    if (received !== undefined) process.exit(130)
    received = name
    controller.abort(new Error(`stopped by ${name}`))
  }
  for (const name of signals) process.on(name, onSignal)
  listening.add(controller)
  return {
    signal: controller.signal,
    get received() {
      return received
    },
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, onSignal)
      listening.delete(controller)
    },
  }
}

/** Resolves when the signal aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
