import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError, errorMessage } from '../../job/errors.js'
import type { Provider } from '../../providers/provider.js'

/** How long a killed sandbox, or one of an unanswered create, is looked for again, in milliseconds. */
const pausesMs = [0, 500, 1000, 2000]
const killTries = 3

export interface Cleaning {
  /** Deadline of a single call, in milliseconds. */
  readonly timeoutMs: number
  /** Waits; for tests. */
  readonly pause?: (ms: number) => Promise<unknown>
}

/**
 * Kills a sandbox, and asks the provider whether it is gone: only then is it done. Not to be interrupted.
 * @throws InfrastructureError that names the sandbox which may still live.
 */
export async function killForSure(provider: Provider, id: string, { timeoutMs, pause = sleep }: Cleaning): Promise<void> {
  let last: unknown
  for (let tries = 1; tries <= killTries; tries += 1) {
    if (tries > 1) await pause(500)
    try {
      await provider.kill(id, { timeoutMs })
      if ((await provider.get(id, { timeoutMs })) === undefined) return
      last = new InfrastructureError({ kind: 'transient', source: provider.name, message: `${provider.name}: the kill was accepted, but the sandbox still lives` })
    } catch (error) {
      last = error
    }
  }
  const kind = last instanceof InfrastructureError ? last.kind : 'transient'
  throw new InfrastructureError({ kind, source: provider.name, message: `sandbox ${id} may still live: ${errorMessage(last)}`, cause: last })
}

/**
 * Finds the sandbox of a create whose outcome is not known, by its tags, and kills it.
 * @returns the ids of what was found.
 * @throws InfrastructureError when the provider can't be asked, or what was found can't be killed.
 */
export async function killUnanswered(provider: Provider, tags: Readonly<Record<string, string>>, cleaning: Cleaning): Promise<readonly string[]> {
  const { timeoutMs, pause = sleep } = cleaning
  // A create may go through a little after it was given up, and listings lag.
  for (const pauseMs of pausesMs) {
    if (pauseMs > 0) await pause(pauseMs)
    const found: string[] = []
    try {
      for await (const { id } of provider.list(tags, { timeoutMs })) found.push(id)
    } catch (error) {
      const kind = error instanceof InfrastructureError ? error.kind : 'transient'
      const marks = Object.entries(tags).map(([name, value]) => `${name}=${value}`).join(' ')
      throw new InfrastructureError({ kind, source: provider.name, message: `whether the create made a sandbox can't be found out: ${errorMessage(error)}; its tags would be ${marks}`, cause: error })
    }
    for (const id of found) await killForSure(provider, id, cleaning)
    if (found.length > 0) return found
  }
  return []
}
