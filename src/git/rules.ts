import { PromotionConflictError } from '../job/errors.js'
import { branchNameProblem } from '../job/names.js'
import type { PromotionRequest } from './host.js'

/** What both kinds of host do in the same way. */

/** Somebody in a commit. */
export interface Identity {
  readonly name: string
  readonly email: string
}

/** Who makes merge commits when nobody else is named. */
export const switchyardIdentity: Identity = { name: 'Switchyard', email: 'switchyard@users.noreply.invalid' }

/** The most paths that a diff lists. */
export const maxDiffPaths = 1000

/** The full refs that a short name may mean, the first found being the one; a branch goes before a tag of the same name. */
export function candidateRefs(name: string): string[] {
  const short = name.replace(/^refs\/(heads|tags)\//, '')
  if (branchNameProblem(short) !== undefined) return []
  return short === name ? [`refs/heads/${name}`, `refs/tags/${name}`] : [name]
}

export function movedTarget(request: PromotionRequest, head: string | null): PromotionConflictError {
  const expected = typeof request.expectedTargetSha === 'string' ? `at ${request.expectedTargetSha}` : 'not to exist'
  return new PromotionConflictError(
    `promote.to: "${request.to}" was expected ${expected} but ${head === null ? 'is gone' : `is at ${head}`}; the work stays on "${request.branch}"`,
  )
}

/** The refs that can't be beside a branch: git keeps no branch `a` beside `a/b`. The last is for all below it. */
export function refsInTheWay(branch: string): string[] {
  const parts = branch.split('/')
  const above = parts.slice(1).map((_part, index) => `refs/heads/${parts.slice(0, index + 1).join('/')}`)
  return [...above, `refs/heads/${branch}/*`]
}

/** @param refs what the host has of `refsInTheWay`. */
export function branchInTheWay(request: Pick<PromotionRequest, 'to' | 'branch'>, refs: ReadonlyMap<string, string>): PromotionConflictError | null {
  const [ref] = refs.keys()
  if (ref === undefined) return null
  const other = ref.replace('refs/heads/', '')
  return new PromotionConflictError(
    `promote.to: "${request.to}" can’t be made while there is a branch "${other}", since git keeps one as a file where the other is a folder; name another target, or remove "${other}"; the work stays on "${request.branch}"`,
  )
}

/** A repository that is nobody's, to find out whether a host is there. */
export const noRepository = 'switchyard-check/none'
