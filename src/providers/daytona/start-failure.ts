import type { InfrastructureErrorKind } from '../../job/errors.js'
import { isRegistryFault, withoutImage } from '../registry-fault.js'

/** How a sandbox says that it did not start. */
export interface StartFailure {
  readonly state: string | undefined
  /** Daytona's own word for it, which repeats what its runner, its engine or a registry said. */
  readonly reason: string
  /** The image or snapshot that was asked for. It is left out when the reason is read: a name may hold any word. */
  readonly image: string | undefined
}

export interface SortedStart {
  readonly kind: Extract<InfrastructureErrorKind, 'capacity' | 'invalid' | 'transient'>
  /** A registry's fault is neither the image's nor Daytona's: it says nothing of what other sandboxes get. */
  readonly whose: 'image' | 'registry' | 'provider'
}

/**
 * Sorts why a sandbox did not start, the first that fits:
 *
 * | reason | sorted |
 * |---|---|
 * | no runner has room | `capacity` |
 * | the image's entrypoint ends at once | `invalid`, the image's |
 * | a runner or its engine that broke, a create or a start that ran into Daytona's own limit | `transient`, the provider's |
 * | a registry that is asked too often, does not answer in time or answers 5xx; a pull or a build that ran into Daytona's own limit | `transient`, the registry's: passing, and nobody else's |
 * | no such image or tag, one for another machine, one that Daytona may not read, a build that fails | `invalid`, the image's |
 * | state `build_failed` for any other reason | `invalid`, the image's |
 * | anything else | `transient`, the provider's |
 */
export function sortStartFailure({ state, reason, image }: StartFailure): SortedStart {
  const said = withoutImage(reason, image)
  if (/no available runners|out of capacity|no free GPU/i.test(said)) return { kind: 'capacity', whose: 'provider' }
  if (/entrypoint is long-running/i.test(said)) return { kind: 'invalid', whose: 'image' }
  if (ofDaytona.test(said)) return { kind: 'transient', whose: 'provider' }
  if (isRegistryFault(reason, image)) return { kind: 'transient', whose: 'registry' }
  if (state === 'build_failed' || ofTheImage.some((pattern) => pattern.test(said))) return { kind: 'invalid', whose: 'image' }
  return { kind: 'transient', whose: 'provider' }
}

/** Its runner, its engine, its own registry, and its limits on what is neither pulled nor built. */
const ofDaytona = /docker daemon|no space left|no (internal )?registry found|no runner\b|job (timed out|failed)|timeout while (creating|starting)/i

const ofTheImage = [
  /manifest unknown|manifest for .* not found|no matching manifest|name unknown|repository .*(not found|does not exist)|no such image|image .*not found|not found: not found/i,
  /pull access denied|unauthorized|authentication required|no basic auth|denied\b|forbidden/i,
  /invalid reference|not x64 compatible|exec format error|executable file not found|dockerfile|failed to solve/i,
]
