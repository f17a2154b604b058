import type { InfrastructureErrorKind } from '../../job/errors.js'

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
  /** Whether it is the image's or the snapshot's own fault, so that no repetition and no other place helps. */
  readonly isImage: boolean
}

/**
 * Sorts why a sandbox did not start, the first that fits:
 *
 * | reason | sorted |
 * |---|---|
 * | no runner has room | `capacity` |
 * | the image's entrypoint ends at once | `invalid`, the image's |
 * | a registry that is asked too often, does not answer in time or answers 5xx; a pull, a build or a start that ran into Daytona's own limit; a runner or its engine that broke | `transient`: passing, and not the image's |
 * | no such image or tag, one for another machine, one that Daytona may not read, a build that fails | `invalid`, the image's |
 * | state `build_failed` for any other reason | `invalid`, the image's |
 * | anything else | `transient` |
 */
export function sortStartFailure({ state, reason, image }: StartFailure): SortedStart {
  const said = namesOf(image).reduce((text, name) => text.replaceAll(name, '…'), reason)
  if (/no available runners|out of capacity|no free GPU/i.test(said)) return { kind: 'capacity', isImage: false }
  if (/entrypoint is long-running/i.test(said)) return { kind: 'invalid', isImage: true }
  if (passing.some((pattern) => pattern.test(said))) return { kind: 'transient', isImage: false }
  if (state === 'build_failed' || ofTheImage.some((pattern) => pattern.test(said))) return { kind: 'invalid', isImage: true }
  return { kind: 'transient', isImage: false }
}

const passing = [
  /too ?many ?requests|rate limit|pull limit/i,
  /time-?out|timed out|deadline exceeded|TLS handshake/i,
  /connection (reset|refused)|broken pipe|unexpected EOF|(^|[^a-z])EOF\b|network is unreachable|no route to host/i,
  // A registry or its name server that answers with an error of its own.
  /internal server error|bad gateway|service unavailable|(unexpected|received unexpected)( HTTP)? status[^0-9]*(429|5\d\d)|status( code)?:? (429|5\d\d)\b/i,
  /no such host|server misbehaving|temporary failure in name resolution/i,
  // Daytona's own: its runner, its engine, its registry.
  /docker daemon|no space left|no (internal )?registry found|no runner\b|job (timed out|failed)/i,
]

const ofTheImage = [
  /manifest unknown|manifest for .* not found|no matching manifest|name unknown|repository .*(not found|does not exist)|no such image|image .*not found|not found: not found/i,
  /pull access denied|unauthorized|authentication required|no basic auth|denied\b|forbidden/i,
  /invalid reference|not x64 compatible|exec format error|executable file not found|dockerfile|failed to solve/i,
]

/** An image by all that a registry may call it: with its tag, without, and its last part. */
function namesOf(image: string | undefined): string[] {
  if (image === undefined) return []
  const untagged = image.replace(/@sha256:.*$/, '').replace(/:[^/:]*$/, '')
  const names = new Set([image, untagged, untagged.replace(/^[^/]*[.:][^/]*\//, '')])
  return [...names].filter((name) => name.length > 2).toSorted((one, other) => other.length - one.length)
}
