import { InfrastructureError } from '../job/errors.js'
import type { GitHost } from './host.js'

export interface GitBreakerOptions {
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** So many failures in a row, of whatever repositories, open it. Default 5. */
  readonly failures?: number | undefined
  /** How long it stays open at first and at most, in milliseconds; doubled each time. Default 1000 and 5000. */
  readonly openMs?: readonly [first: number, most: number] | undefined
}

/**
 * The git host, left alone for a while when it answers nobody: hundreds of jobs that wait for it ask it one call at a time.
 *
 *   closed ──failures in a row──► open ──its time is up──► half-open, one call ──answered──► closed
 *                                  ▲                            └──failed, twice as long──┐
 *                                  └──────────────────────────────────────────────────────┘
 *
 * Only the host's own faults count (`git-host`): a repository that does not exist or is refused, and a refused key, are answers.
 * One a consumer and not one a deployment, on purpose: each consumer reaches the host by its own way, and one whose network is
 * broken must not close it to the others.
 */
export function withBreaker(git: GitHost, { now, failures: most = 5, openMs: [firstOpenMs, mostOpenMs] = [1_000, 5_000] }: GitBreakerOptions): GitHost {
  let failures = 0
  let openings = 0
  let openUntilMs = 0
  let probing = false

  function isHostsFault(error: unknown): error is InfrastructureError {
    return error instanceof InfrastructureError && (error.owner === 'git-host' || (error.owner === undefined && ['transient', 'provider-down', 'rate-limited'].includes(error.kind)))
  }

  async function guarded<Result>(call: () => Promise<Result>): Promise<Result> {
    const open = failures >= most
    // A clock that was set back must not keep it open.
    const leftMs = Math.min(openUntilMs - now(), mostOpenMs)
    if (open && (leftMs > 0 || probing)) {
      const message = `${git.name}: does not answer (${failures} calls in a row failed); it is asked again soon`
      throw new InfrastructureError({ kind: 'provider-down', owner: 'git-host', source: git.name, message, retryAfterMs: Math.max(100, leftMs) })
    }
    probing = open
    try {
      const result = await call()
      failures = openings = 0
      return result
    } catch (error) {
      if (isHostsFault(error)) {
        failures += 1
        if (failures >= most) openUntilMs = now() + Math.min(mostOpenMs, firstOpenMs * 2 ** openings++)
      } else if (error instanceof InfrastructureError) failures = openings = 0
      throw error
    } finally {
      if (open) probing = false
    }
  }

  const guardedPullRequest = (open: NonNullable<GitHost['openPullRequest']>): NonNullable<GitHost['openPullRequest']> => (...call) => guarded(() => open(...call))

  return {
    name: git.name,
    hosts: git.hosts,
    ephemeral: git.ephemeral,
    check: (...call) => git.check(...call),
    resolve: (...call) => guarded(() => git.resolve(...call)),
    branchHead: (...call) => guarded(() => git.branchHead(...call)),
    readAccess: (...call) => git.readAccess(...call),
    writeAccess: (...call) => git.writeAccess(...call),
    signing: git.signing,
    sign: (...call) => guarded(() => git.sign(...call)),
    attest: (...call) => guarded(() => git.attest(...call)),
    provenance: (...call) => guarded(() => git.provenance(...call)),
    checkSignature: (...call) => guarded(() => git.checkSignature(...call)),
    promote: (...call) => guarded(() => git.promote(...call)),
    ...(git.openPullRequest === undefined ? {} : { openPullRequest: guardedPullRequest(git.openPullRequest) }),
    deleteBranch: (...call) => guarded(() => git.deleteBranch(...call)),
    diff: (...call) => guarded(() => git.diff(...call)),
  }
}
