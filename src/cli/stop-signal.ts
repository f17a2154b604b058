/**
 * Turns Ctrl-C (SIGINT), SIGTERM and SIGHUP into an AbortSignal, so that what was started is stopped in order. A second
 * signal ends the process at once, for somebody who can't wait.
 */
export interface StopSignal extends Disposable {
  readonly signal: AbortSignal
  /** The signal that came, when one did. */
  readonly received: NodeJS.Signals | undefined
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
  return {
    signal: controller.signal,
    get received() {
      return received
    },
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, onSignal)
    },
  }
}

/** Resolves when the signal aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
