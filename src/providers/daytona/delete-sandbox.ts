import { setTimeout as sleep } from 'node:timers/promises'
import type { Sandbox } from '@daytona/sdk'
import { InfrastructureError } from '../../job/errors.js'
import { isStateChange, mayBeLost } from './classify.js'

const pauseMs = 250
/** The part of the time after which a delete that is still refused is told, instead of running into the deadline. */
const refusedShare = 0.8

/**
 * Deletes a sandbox and waits until Daytona says that it is gone: the SDK takes any 404 in its wait for that, a proxy's as well. Daytona refuses
 * a delete while the sandbox is between two states, which may take until its own limits: 15 minutes while it is created, 30 while its snapshot
 * is pulled, 60 while one is built.
 * @param find the sandbox as it is now; undefined when Daytona says that there is none.
 * @throws InfrastructureError `transient` when the delete is still refused at the end of the time; what the SDK throws otherwise.
 */
export async function deleteSandbox(source: string, known: Sandbox | undefined, find: () => Promise<Sandbox | undefined>, timeoutMs: number, signal: AbortSignal): Promise<void> {
  const refusedUntilMs = performance.now() + timeoutMs * refusedShare
  for (let sandbox = known ?? (await find()); sandbox !== undefined && sandbox.state !== 'destroyed'; sandbox = await find()) {
    signal.throwIfAborted()
    try {
      await sandbox.delete(timeoutMs / 1000, true)
      const now = await find()
      if (now === undefined || now.state === 'destroyed') return
    } catch (error) {
      // Only a get may say that it is gone.
      const now = mayBeLost(error) ? await find() : sandbox
      if (now === undefined) return
      if (!isStateChange(error)) throw error
      if (performance.now() > refusedUntilMs) {
        const message = `${source}: kill failed: Daytona refuses to delete a sandbox while its state changes, and this one is ${now.state ?? 'in none that it tells'}; it takes the delete once that is over, after an hour at the latest`
        throw new InfrastructureError({ kind: 'transient', source, message })
      }
    }
    await sleep(pauseMs, undefined, { signal })
  }
}
