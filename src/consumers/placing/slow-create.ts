import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { InfrastructureError, errorMessage } from '../../job/errors.js'
import { controllerUnder } from '../../store/index.js'
import type { ProviderLoad } from '../../store/provider-load.js'
import type { SlotLedger } from '../../store/slot-ledger.js'
import { limitsOf } from './candidates.js'
import type { Exclusions } from './placement.js'
import type { ProviderSlot } from './provider-slot.js'

/** How many times as long as the provider's slowest of late a create may take. */
const timesTheSlowest = 3

/**
 * Whether a create that does not end is given up: only for another provider that has room, and only when it has taken so long that
 * it will hardly end well. While nobody has room, the provider's own limit is all.
 */
export function isGivenUp(create: { readonly provider: string; readonly tookMs: number; readonly leastMs: number }, eligible: readonly string[], loads: readonly ProviderLoad[]): boolean {
  const slowestMs = loads.find(({ provider }) => provider === create.provider)?.startMaxMs ?? 0
  if (create.tookMs < Math.max(create.leastMs, timesTheSlowest * slowestMs)) return false
  return loads.some((load) => load.provider !== create.provider && eligible.includes(load.provider) && hasRoom(load))
}

function hasRoom({ drain, breaker, used, effectiveLimit, blockedUntilMs, waiting }: ProviderLoad): boolean {
  return drain === null && breaker === 'closed' && blockedUntilMs === null && waiting === 0 && used < effectiveLimit
}

/** A create under way. */
export interface WatchedCreate {
  readonly provider: string
  readonly beganAtMs: number
  /** The providers that the job may go to. */
  readonly eligible: readonly string[]
  readonly exclusions: () => Exclusions
}

/** What watching over a create takes of its consumer. */
interface WatchParts {
  readonly ledger: Pick<SlotLedger, 'sharedLoads'>
  readonly providers: ReadonlyMap<string, ProviderSlot>
  readonly settings: { readonly createPatienceMs: number; readonly pollMs: number }
  readonly now: () => number
  readonly log: Pick<Logger, 'warn'>
}

/** Without a reason of ours the platform would make one, with its stack. */
const over = new Error('the create has ended')

/** Watches over a create: `signal` aborts with `until`, and once the create is to be given up, with the error as its reason. */
export function watchCreate(shared: WatchParts, create: WatchedCreate, until: AbortSignal): { readonly signal: AbortSignal; readonly stop: () => void } {
  const { controller: givenUp, release } = controllerUnder(until)
  const stopped = new AbortController()
  void watch(shared, create, givenUp, stopped.signal)
  const stop = () => {
    release()
    stopped.abort(over)
  }
  return { signal: givenUp.signal, stop }
}

async function watch({ ledger, providers, settings, now, log }: WatchParts, { provider, beganAtMs, eligible, exclusions }: WatchedCreate, givenUp: AbortController, stopped: AbortSignal): Promise<void> {
  const leastMs = settings.createPatienceMs
  const others = eligible.filter((name) => name !== provider)
  if (others.length === 0) return
  for (;;) {
    const waitMs = Math.max(settings.pollMs, beganAtMs + leastMs - now())
    // Only the signal makes it fail.
    await delay(waitMs, undefined, { signal: stopped, ref: false }).catch(() => undefined)
    if (stopped.aborted) return
    try {
      const free = others.filter((name) => (exclusions().get(name)?.untilMs ?? 0) <= now())
      const tookMs = Math.max(0, now() - beganAtMs)
      if (!isGivenUp({ provider, tookMs, leastMs }, free, await ledger.sharedLoads(limitsOf(providers)))) continue
      const message = `${provider}: the sandbox did not come to be within ${Math.round(tookMs / 1000)} s, far longer than its creates of late took, and another provider has room`
      givenUp.abort(new InfrastructureError({ kind: 'provider-down', owner: 'provider-create', code: 'SWY_CREATE_GIVEN_UP', source: provider, message, sandboxMayExist: true }))
      return
    } catch (error) {
      log.warn({ provider, message: errorMessage(error) }, 'a slow create could not be looked at; again soon')
    }
  }
}
