import { setTimeout as sleep } from 'node:timers/promises'
import type { Daytona } from '@daytona/sdk'
import { errorMessage, InfrastructureError } from '../../job/errors.js'
import { cutText } from '../../job/harmless-text.js'
import type { DaytonaProviderConfig } from './config.js'
import { isBecomingReady } from './snapshot-state.js'

/** How long a call waits for a snapshot that is being made ready; after that the next call may find it so. */
const readyWaitMs = 30_000
const pauseMs = 1_000

/**
 * Makes the snapshot of the operator's entry usable: Daytona makes one inactive that nobody used for weeks, and activates it again
 * when it is asked to.
 * @returns what was wrong with it, as a warning; undefined when it was active.
 * @throws InfrastructureError `invalid` when it can't be used, which is the configuration's fault; `transient` while it is being deactivated.
 */
export async function activate(client: Daytona, config: DaytonaProviderConfig, name: string): Promise<string | undefined> {
  const snapshot = await client.snapshot.get(name)
  if (snapshot.state === 'active') return undefined
  if (isBecomingReady(snapshot.state)) return `snapshot "${name}" is ${snapshot.state}, not active yet: sandboxes can't be created from it before it is`
  if (snapshot.state !== 'inactive') throw unusable(config, name, snapshot.state, snapshot.errorReason ?? 'no reason given')
  try {
    await client.snapshot.activate(snapshot)
  } catch (error) {
    const reason = cutText(errorMessage(error).replace(/\s+/g, ' '), 300)
    if (/deactivation is still in progress/i.test(reason)) throw problem(config, 'transient', `the snapshot "${name}" is being deactivated, and can be activated again in some minutes (${reason})`)
    // Another consumer may have been faster.
    if (!/already active|in (pending|pulling|building) state/i.test(reason)) throw unusable(config, name, 'inactive', reason)
  }
  return `snapshot "${name}" is inactive, as Daytona makes one that is not used for weeks; it is being activated`
}

/** `activate`, and waits for a while until the snapshot is ready. @throws as `activate`; `transient` as well when it is not ready by then. */
export async function makeUsable(client: Daytona, config: DaytonaProviderConfig, name: string, signal: AbortSignal): Promise<void> {
  if ((await activate(client, config, name)) === undefined) return
  const untilMs = performance.now() + readyWaitMs
  for (;;) {
    const { state, errorReason } = await client.snapshot.get(name)
    if (state === 'active') return
    if (!isBecomingReady(state)) throw unusable(config, name, state, errorReason ?? 'no reason given')
    if (performance.now() > untilMs) throw problem(config, 'transient', `the snapshot "${name}" is ${state} and not ready yet`)
    await sleep(pauseMs, undefined, { signal })
  }
}

function unusable(config: DaytonaProviderConfig, name: string, state: string, reason: string): InfrastructureError {
  return problem(config, 'invalid', `the snapshot "${name}" of this provider's entry is ${state} (${reason}); activate or build it in Daytona's dashboard, or set snapshot to another one`)
}

function problem(config: DaytonaProviderConfig, kind: 'invalid' | 'transient', text: string): InfrastructureError {
  return new InfrastructureError({ kind, owner: 'consumer-configuration', source: config.name, message: `${config.name}: ${text}` })
}
