/** A pull request as it is asked for, and what came of it. */
export interface PullRequestRequest {
  readonly repository: string
  /** The branch with the work. */
  readonly head: string
  /** Where it is to go; the default branch when left out. */
  readonly base: string | undefined
  readonly title: string
  /** Markdown. Holds `mark`. */
  readonly body: string
  readonly draft: boolean
  readonly labels: readonly string[]
  readonly reviewers: readonly string[]
  /** What tells this very request from every other one, also once it is closed: a line of its body. */
  readonly mark: string
}

export interface OpenedPullRequest {
  readonly number: number
  readonly url: string
  readonly base: string
  /** `updated`: one for the same branches was open already. `found`: this very one was opened before, by a call whose answer was lost, and is closed by now. */
  readonly action: 'opened' | 'updated' | 'found'
  /** Sentences on what of it could not be had: a label, a reviewer. */
  readonly problems: readonly string[]
}
