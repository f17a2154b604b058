import { branchNameProblem } from '../../job/names.js'
import { ApiProblem } from './problem.js'
import { namespacePrefix, type GitRunner, type Repository } from './repositories.js'

/** The sha that git uses for "there is none". */
export const zeroSha = '0'.repeat(40)

/** A branch's ref as git keeps it on disk. @throws ApiProblem 400 for a name that git refuses. */
export function branchRef(branch: string, ephemeral: boolean, field: string): string {
  const problem = branchNameProblem(branch)
  if (problem !== undefined) throw new ApiProblem(400, `${field}: "${branch}" ${problem}`)
  return `${ephemeral ? namespacePrefix : ''}refs/heads/${branch}`
}

/** Reads and moves refs of one repository. */
export class Refs {
  constructor(
    private readonly git: GitRunner,
    private readonly repository: Repository,
  ) {}

  /** Runs git and gives its output. @throws Error with git's words when it fails. */
  async run(args: readonly string[], options?: Parameters<GitRunner>[2]): Promise<string> {
    const outcome = await this.git(this.repository, args, options)
    if (outcome.exitCode !== 0) throw new Error(`git ${args[0] ?? ''} failed: ${outcome.stderr.trim()}`)
    return outcome.stdout.toString('utf8')
  }

  /** The commit that a revision means; null when there is none. */
  async commit(revision: string): Promise<string | null> {
    const outcome = await this.git(this.repository, ['rev-parse', '--verify', '--quiet', '--end-of-options', `${revision}^{commit}`])
    return outcome.exitCode === 0 ? outcome.stdout.toString('utf8').trim() : null
  }

  /** What `ref` of an API call means: a full ref, a branch, a tag or a sha, in one of the namespaces; the default branch's name if left out. */
  async named(name: string | undefined, ephemeral: boolean, field: string): Promise<string> {
    const prefix = ephemeral ? namespacePrefix : ''
    const candidates =
      name === undefined || name === 'HEAD'
        ? [`${prefix}refs/heads/${await this.defaultBranch()}`]
        : name.startsWith('refs/')
          ? [`${prefix}${name}`]
          : [`${prefix}refs/heads/${name}`, `refs/tags/${name}`, ...(/^[0-9a-f]{4,40}$/.test(name) ? [name] : [])]
    for (const candidate of candidates) {
      const sha = await this.commit(candidate)
      if (sha !== null) return sha
    }
    throw new ApiProblem(404, `${field}: ${name === undefined ? 'the repository has no commits' : `"${name}" was not found`}`)
  }

  async isAncestor(ancestor: string, descendant: string): Promise<boolean> {
    const outcome = await this.git(this.repository, ['merge-base', '--is-ancestor', ancestor, descendant])
    if (outcome.exitCode === 0 || outcome.exitCode === 1) return outcome.exitCode === 0
    throw new Error(`git merge-base failed: ${outcome.stderr.trim()}`)
  }

  async mergeBase(a: string, b: string): Promise<string | null> {
    const outcome = await this.git(this.repository, ['merge-base', a, b])
    return outcome.exitCode === 0 ? outcome.stdout.toString('utf8').trim() : null
  }

  /** Moves a ref when it stands at `from` (`zeroSha`: when it does not exist). False when somebody else moved it. */
  async compareAndSwap(ref: string, from: string, to: string): Promise<boolean> {
    const args = to === zeroSha ? ['update-ref', '-d', ref, from] : ['update-ref', ref, to, from]
    const outcome = await this.git(this.repository, args)
    if (outcome.exitCode === 0) return true
    if (outcome.stderr.includes('cannot lock ref')) return false
    throw new Error(`git update-ref failed: ${outcome.stderr.trim()}`)
  }

  /** The branch that HEAD names. */
  async defaultBranch(): Promise<string> {
    return (await this.run(['symbolic-ref', '--short', 'HEAD'])).trim()
  }
}
