import { z } from 'zod'
import type { GitCallOptions } from '../host.js'
import { saidIn, type ForgeApi } from './forge-api.js'
import type { Forge, KnownPullRequest, OpenOutcome } from './pull-requests.js'
import type { PullRequestRequest } from './request.js'

const pull = z.object({ number: z.int().min(1), html_url: z.url({ protocol: /^https?$/ }), state: z.enum(['open', 'closed']), body: z.string().nullish(), node_id: z.string().optional(), draft: z.boolean().optional() })
const known = ({ number, html_url: url, state, body, node_id: id, draft: is }: z.output<typeof pull>): KnownPullRequest => ({ number, url, open: state === 'open', body: body ?? '', ...(id === undefined || is === undefined ? {} : { draft: { is, id } }) })
/** GraphQL answers 200 to what it refuses, too. */
const graphqlAnswer = z.object({ errors: z.array(z.object({ message: z.string() })).optional() })

/** GitHub, and GitHub Enterprise Server: https://docs.github.com/rest/pulls */
export class GitHubForge implements Forge {
  constructor(private readonly api: ForgeApi) {}

  async defaultBranch(repository: string, options: GitCallOptions): Promise<string> {
    const answer = await this.api.call({ method: 'GET', path: path(repository), repository }, options)
    return this.api.read(z.object({ default_branch: z.string().min(1) }), answer, 'the repository').default_branch
  }

  async between(repository: string, head: string, base: string, options: GitCallOptions): Promise<readonly KnownPullRequest[]> {
    const query = { state: 'all', head: `${repository.split('/')[0] ?? ''}:${head}`, base, sort: 'created', direction: 'desc', per_page: '30' }
    const answer = await this.api.call({ method: 'GET', path: `${path(repository)}/pulls`, repository, query }, options)
    return this.api.read(z.array(pull), answer, 'the list of pull requests').map(known)
  }

  async open({ repository, title, head, base, body, draft }: PullRequestRequest & { readonly base: string }, options: GitCallOptions): Promise<OpenOutcome> {
    const answer = await this.api.call({ method: 'POST', path: `${path(repository)}/pulls`, repository, body: { title, head, base, body, draft }, allowed: [422] }, options)
    if (answer.status !== 422) return { opened: known(this.api.read(pull, answer, 'the new pull request')) }
    const said = saidIn(answer.body)
    if (/already exists/i.test(said)) return 'exists'
    if (/no commits between/i.test(said)) return 'nothing'
    throw this.api.error({ kind: 'invalid', owner: 'job' }, `from "${head}" to "${base}" is refused${said}; look at promote.pullRequest (base, draft)`)
  }

  async update(number: number, { repository, title, body }: PullRequestRequest, options: GitCallOptions): Promise<KnownPullRequest> {
    const answer = await this.api.call({ method: 'PATCH', path: `${path(repository)}/pulls/${number}`, repository, body: { title, body } }, options)
    return known(this.api.read(pull, answer, 'the pull request'))
  }

  async complete({ number, draft: stands }: KnownPullRequest, { repository, draft, labels, reviewers }: PullRequestRequest, options: GitCallOptions): Promise<readonly string[]> {
    const problems: string[] = []
    if (stands !== undefined && stands.is !== draft) problems.push(...(await this.#changeDraft(repository, stands.id, draft, options)))
    if (labels.length > 0) {
      const { status, body } = await this.api.call({ method: 'POST', path: `${path(repository)}/issues/${number}/labels`, repository, body: { labels }, allowed: [403, 404, 410, 422] }, options)
      if (status >= 400) problems.push(`its labels were not set${saidIn(body)}`)
    }
    if (reviewers.length > 0) {
      const [teams, users] = [reviewers.filter((name) => name.includes('/')), reviewers.filter((name) => !name.includes('/'))]
      const asked = { reviewers: users, team_reviewers: teams.map((name) => name.slice(name.indexOf('/') + 1)) }
      const { status, body } = await this.api.call({ method: 'POST', path: `${path(repository)}/pulls/${number}/requested_reviewers`, repository, body: asked, allowed: [403, 404, 422] }, options)
      if (status >= 400) problems.push(`its reviewers were not asked${saidIn(body)}`)
    }
    return problems
  }

  /** REST knows `draft` of new pull requests alone: https://docs.github.com/graphql/reference/mutations */
  async #changeDraft(repository: string, id: string, draft: boolean, options: GitCallOptions): Promise<readonly string[]> {
    const mutation = draft ? 'convertPullRequestToDraft' : 'markPullRequestReadyForReview'
    const query = `mutation ($id: ID!) { ${mutation}(input: { pullRequestId: $id }) { pullRequest { isDraft } } }`
    const answer = await this.api.call({ method: 'POST', path: 'graphql', base: graphqlBase, repository, body: { query, variables: { id } }, allowed: [403] }, options)
    const said = answer.status === 403 ? saidIn(answer.body) : saidIn(this.api.read(graphqlAnswer, answer, 'GraphQL').errors?.map(({ message }) => message))
    return said === '' && answer.status !== 403 ? [] : [`it was not made ${draft ? 'a draft' : 'ready for review'}${said}`]
  }
}

/** At github.com beside REST's, at a server of one's own beside its version: `/api/v3` and `/api/graphql`. */
function graphqlBase(url: string): string {
  return url.replace(/\/api\/v3$/, '/api')
}

function path(repository: string): string {
  return `repos/${repository.split('/').map(encodeURIComponent).join('/')}`
}
