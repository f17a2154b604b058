import { branchNameProblem } from '../../job/names.js'
import { refusal, wantsSignatures, type PolicyClaims } from './policy.js'
import { ApiProblem } from './problem.js'
import { namespacePrefix, type GitRunner, type Repository } from './repositories.js'

/** The sha that git uses for "there is none". */
export const zeroSha = '0'.repeat(40)

/** A branch's ref as git keeps it on disk. @throws ApiProblem 400 for a name that git refuses. */
export function branchRef(branch: string, ephemeral: boolean, field: string): string {
  const problem = branchNameProblem(branch)
  if (problem !== undefined) throw new ApiProblem(400, `${field}: "${branch.slice(0, 200)}" ${problem}`)
  return `${ephemeral ? namespacePrefix : ''}refs/heads/${branch}`
}

/** @throws ApiProblem 403 when the token's policies refuse the change. The ref is as a client of its namespace sees it. */
export function enforcePolicy(claims: PolicyClaims, ref: string, fastForward: boolean): void {
  const reason = refusal(claims, { ref, fastForward })
  if (reason !== undefined) throw new ApiProblem(403, reason)
}

// A name, and how many commits or which parents to go back from there. What git knows besides (searches, reflogs, ranges, paths) is not taken.
const expression = /^(?<name>[^\u0000-\u0020\u007f~^:?*[\\]{1,500}?)(?<back>(?:[~^]\d{0,6}){0,50})$/

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

  /**
   * What a call means by a ref: a full ref, a branch, a tag or a sha in one of the namespaces, with `~1` or `^2` behind it or not;
   * the default branch if it is left out.
   * @throws ApiProblem 404 when there is no such commit.
   */
  async named(name: string | undefined, ephemeral: boolean, field: string): Promise<string> {
    const sha = await this.find(name, ephemeral)
    if (sha !== null) return sha
    throw new ApiProblem(404, `${field}: ${name === undefined ? 'the repository has no commits' : `"${name.slice(0, 200)}" was not found`}`)
  }

  /** As `named`; null when there is no such commit. */
  async find(name: string | undefined, ephemeral: boolean): Promise<string | null> {
    const prefix = ephemeral ? namespacePrefix : ''
    if (name === undefined) return this.commit(`${prefix}refs/heads/${await this.defaultBranch()}`)
    const parsed = expression.exec(name)?.groups
    if (parsed?.['name'] === undefined || parsed['name'].includes('..') || parsed['name'].includes('@{')) return null
    const { name: base, back = '' } = parsed
    const candidates =
      base === 'HEAD'
        ? [`${prefix}refs/heads/${await this.defaultBranch()}`]
        : base.startsWith('refs/namespaces/')
          ? []
          : base.startsWith('refs/')
            ? [`${prefix}${base}`]
            : [`${prefix}refs/heads/${base}`, `refs/tags/${base}`, ...(/^[0-9a-f]{4,40}$/.test(base) ? [base] : [])]
    return this.#first(candidates.map((candidate) => `${candidate}${back}`))
  }

  /** The first of these revisions that means a commit; all are asked for in one process, since starting one takes longer than its answer. */
  async #first(revisions: readonly string[]): Promise<string | null> {
    if (revisions.length < 2) return revisions[0] === undefined ? null : this.commit(revisions[0])
    const answer = await this.run(['cat-file', '--batch-check=%(objectname)'], { input: revisions.map((revision) => `${revision}^{commit}\n`).join('') })
    return answer.split('\n').find((line) => /^[0-9a-f]{40,64}$/.test(line)) ?? null
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

  /**
   * Where the token's policies want signatures, every commit that is new to the ref has to be signed with a registered key.
   * @param ref as a client of its namespace sees it.
   * @throws ApiProblem 403.
   */
  async enforceSignatures(claims: PolicyClaims, ref: string, from: string | null, to: string): Promise<void> {
    if (!wantsSignatures(claims, ref)) return
    const known = from === null || from === zeroSha ? ['--not', '--branches'] : [`^${from}`]
    for (const sha of (await this.run(['rev-list', to, ...known])).split('\n').filter((line) => line !== '')) {
      const outcome = await this.git(this.repository, ['verify-commit', sha])
      if (outcome.exitCode !== 0) throw new ApiProblem(403, `denied by policy: ${ref} (verify-sig: ${sha} is not signed with a registered key)`)
    }
  }

  /** The branch that HEAD names. Not by git's short form, which is longer where a tag has the same name. */
  async defaultBranch(): Promise<string> {
    return (await this.run(['symbolic-ref', 'HEAD'])).trim().slice('refs/heads/'.length)
  }

  /** The refs below a prefix, sorted by name, which leaves the prefix out. */
  async list(prefix: string): Promise<NamedRef[]> {
    const format = '%(refname)%00%(objectname)%00%(*objectname)%00%(creatordate:iso-strict)'
    const lines = (await this.run(['for-each-ref', `--format=${format}`, prefix], { maxOutputBytes: 256 * 1024 * 1024 })).split('\n').filter((line) => line !== '')
    return lines
      .map((line) => {
        const [ref = '', sha = '', peeled = '', createdAt = ''] = line.split('\0')
        return { name: ref.slice(prefix.length), sha: peeled === '' ? sha : peeled, createdAt }
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }
}

export interface NamedRef {
  readonly name: string
  /** Of an annotated tag, the commit that it stands for. */
  readonly sha: string
  readonly createdAt: string
}
