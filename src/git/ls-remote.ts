import { InfrastructureError } from '../job/errors.js'
import { gitReason, sortGitFailure } from './failures.js'
import { runGit, type GitCommand, type GitOutcome } from './git-process.js'
import type { GitAccess, GitCallOptions } from './host.js'

/** What a host says about its refs. */
export interface RemoteRefs {
  /** Full ref → commit; annotated tags are followed to what they point at. */
  readonly refs: ReadonlyMap<string, string>
  /** The full ref that HEAD stands for; null when the repository is empty or HEAD is detached. */
  readonly headRef: string | null
}

type RemoteAccess = Pick<GitAccess, 'url' | 'username' | 'token'>

/**
 * Asks a host for exactly these refs, in one call.
 * @param names full refs, `HEAD`, or `refs/heads/NAME/*` for all below.
 * @throws InfrastructureError as `sortGitFailure` sorts it; `invalid` names a repository that does not exist.
 */
export async function lsRemote(source: string, access: RemoteAccess, names: readonly string[], options: GitCallOptions): Promise<RemoteRefs> {
  const patterns = names.flatMap((name) => (name.startsWith('refs/tags/') ? [name, `${name}^{}`] : [name]))
  const outcome = await remoteGit(source, ['ls-remote', '--symref', '--quiet', '--', access.url, ...patterns], { access, options })
  expectSuccess(source, `reading the refs of ${access.url}`, outcome)
  return parseRefs(outcome.stdout.toString('utf8'), new Set(names))
}

/** Reads `git ls-remote --symref`. Git matches the ends of refs; only the wanted ones are kept. */
export function parseRefs(output: string, wanted: ReadonlySet<string>): RemoteRefs {
  const refs = new Map<string, string>()
  let headRef: string | null = null
  for (const line of output.split('\n')) {
    const [value = '', name = ''] = line.split('\t')
    if (value.startsWith('ref: ')) {
      if (name === 'HEAD') headRef = value.slice('ref: '.length)
      continue
    }
    // A peeled tag comes behind the tag itself and replaces it.
    const ref = name.endsWith('^{}') ? name.slice(0, -3) : name
    const isWanted = wanted.has(ref) || [...wanted].some((name) => name.endsWith('/*') && ref.startsWith(name.slice(0, -1)))
    if (isWanted && /^[0-9a-f]{40,64}$/.test(value)) refs.set(ref, value)
  }
  return { refs, headRef }
}

/**
 * Runs a git command against a host, in a consumer.
 * @throws InfrastructureError `invalid` when this machine has no git.
 */
export async function remoteGit(
  source: string,
  args: readonly string[],
  { access, options, ...command }: { access: RemoteAccess; options: GitCallOptions } & Pick<GitCommand, 'cwd' | 'input' | 'env' | 'config' | 'maxOutputBytes' | 'cpuSeconds'>,
): Promise<GitOutcome> {
  try {
    return await runGit({
      ...command,
      args,
      credentials: { username: access.username, token: access.token },
      timeoutMs: options.timeoutMs,
      signal: options.signal,
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source, message: `${source}: git is not installed where the consumer runs; install git 2.38 or later` })
  }
}

/** What git was to work out of commits takes more processor time than it may: they are the job's, and the host has nothing to do with it. */
export class TooMuchToWorkOutError extends InfrastructureError {
  constructor(source: string, what: string) {
    super({ kind: 'invalid', owner: 'job', source, message: `${source}: ${what} failed: it takes more processor time than a job's commits may` })
  }
}

/** @throws InfrastructureError when the command failed, with git's own reason. */
export function expectSuccess(source: string, what: string, outcome: GitOutcome): void {
  if (outcome.exitCode === 0 && !outcome.timedOut && !outcome.truncated) return
  if (outcome.outOfCpu) throw new TooMuchToWorkOutError(source, what)
  // The host has answered: what is too long is what a job, or its repository, holds. Asked again it is as long, and other repositories are not concerned.
  if (outcome.truncated) throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message: `${source}: ${what} failed: the answer is longer than what is read` })
  const sorted = sortGitFailure(outcome.stderr, outcome.timedOut)
  const reason = outcome.timedOut ? 'it did not end in time' : gitReason(outcome.stderr)
  throw new InfrastructureError({ ...sorted, source, message: `${source}: ${what} failed: ${reason}` })
}
