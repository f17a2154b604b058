import type { GitCallOptions } from '../host.js'
import type { PullRequestRequest } from './request.js'

/** Pull requests (merge requests at GitLab), as they are asked for at any host that has them. */

export const forgeKinds = ['github', 'gitlab', 'bitbucket'] as const
export type ForgeKind = (typeof forgeKinds)[number]

/** A pull request as a host tells of it. */
export interface KnownPullRequest {
  readonly number: number
  readonly url: string
  readonly open: boolean
  readonly body: string
  /** Where a host changes it by a call of its own: whether it is a draft, and what that call names it by. */
  readonly draft?: { readonly is: boolean; readonly id: string } | undefined
}

/** `exists`: one is open for these branches. `nothing`: the branches do not differ. */
export type OpenOutcome = { readonly opened: KnownPullRequest } | 'exists' | 'nothing'

/** What is asked of one kind of host. Every call throws only `InfrastructureError`. */
export interface Forge {
  defaultBranch(repository: string, options: GitCallOptions): Promise<string>
  /** Those from one branch to another, open ones and others, the newest first. */
  between(repository: string, head: string, base: string, options: GitCallOptions): Promise<readonly KnownPullRequest[]>
  open(request: PullRequestRequest & { readonly base: string }, options: GitCallOptions): Promise<OpenOutcome>
  /** Title and body anew. */
  update(number: number, request: PullRequestRequest, options: GitCallOptions): Promise<KnownPullRequest>
  /** What goes to it in calls of their own. @returns sentences on what could not be had. */
  complete(known: KnownPullRequest, request: PullRequestRequest, options: GitCallOptions): Promise<readonly string[]>
}
