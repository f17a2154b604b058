import { z } from 'zod'
import type { GitCallOptions } from '../host.js'
import { saidIn, type ForgeApi } from './forge-api.js'
import type { Forge, KnownPullRequest, OpenOutcome } from './pull-requests.js'
import type { PullRequestRequest } from './request.js'

const mergeRequest = z.object({ iid: z.int().min(1), web_url: z.url({ protocol: /^https?$/ }), state: z.string(), description: z.string().nullish() })
const known = ({ iid, web_url: url, state, description }: z.output<typeof mergeRequest>): KnownPullRequest => ({ number: iid, url, open: state === 'opened' || state === 'locked', body: description ?? '' })

/** GitLab, also one's own: https://docs.gitlab.com/api/merge_requests */
export class GitLabForge implements Forge {
  constructor(private readonly api: ForgeApi) {}

  async defaultBranch(repository: string, options: GitCallOptions): Promise<string> {
    const answer = await this.api.call({ method: 'GET', path: path(repository), repository }, options)
    return this.api.read(z.object({ default_branch: z.string().min(1) }), answer, 'the project').default_branch
  }

  async between(repository: string, head: string, base: string, options: GitCallOptions): Promise<readonly KnownPullRequest[]> {
    const query = { state: 'all', source_branch: head, target_branch: base, order_by: 'created_at', sort: 'desc', per_page: '30' }
    const answer = await this.api.call({ method: 'GET', path: `${path(repository)}/merge_requests`, repository, query }, options)
    return this.api.read(z.array(mergeRequest), answer, 'the list of merge requests').map(known)
  }

  async open(request: PullRequestRequest & { readonly base: string }, options: GitCallOptions): Promise<OpenOutcome> {
    const { repository, head, base, labels } = request
    const body = { source_branch: head, target_branch: base, ...texts(request), ...(labels.length === 0 ? {} : { labels: labels.join(',') }) }
    const answer = await this.api.call({ method: 'POST', path: `${path(repository)}/merge_requests`, repository, body, allowed: [400, 409, 422] }, options)
    if (answer.status < 400) return { opened: known(this.api.read(mergeRequest, answer, 'the new merge request')) }
    const said = saidIn(answer.body)
    if (answer.status === 409 || /already exists/i.test(said)) return 'exists'
    throw this.api.error({ kind: 'invalid', owner: 'job' }, `from "${head}" to "${base}" is refused${said}; look at promote.pullRequest (base)`)
  }

  async update(number: number, request: PullRequestRequest, options: GitCallOptions): Promise<KnownPullRequest> {
    const { repository, labels } = request
    const body = { ...texts(request), ...(labels.length === 0 ? {} : { add_labels: labels.join(',') }) }
    const answer = await this.api.call({ method: 'PUT', path: `${path(repository)}/merge_requests/${number}`, repository, body }, options)
    return known(this.api.read(mergeRequest, answer, 'the merge request'))
  }

  /** Reviewers go by their ids, which are looked up by name. */
  async complete({ number }: KnownPullRequest, { repository, reviewers }: PullRequestRequest, options: GitCallOptions): Promise<readonly string[]> {
    if (reviewers.length === 0) return []
    const problems: string[] = []
    const ids: number[] = []
    for (const username of reviewers) {
      const answer = await this.api.call({ method: 'GET', path: 'users', repository, query: { username }, allowed: [403] }, options)
      const id = answer.status === 403 ? undefined : this.api.read(z.array(z.object({ id: z.int() })), answer, 'the list of users')[0]?.id
      if (id === undefined) problems.push(`the reviewer "${username}" is not known`)
      else ids.push(id)
    }
    if (ids.length === 0) return problems
    const { status, body } = await this.api.call({ method: 'PUT', path: `${path(repository)}/merge_requests/${number}`, repository, body: { reviewer_ids: ids }, allowed: [400, 403, 422] }, options)
    return status < 400 ? problems : [...problems, `its reviewers were not asked${saidIn(body)}`]
  }
}

/** A draft is one by its title. In a description a line that begins with "/" is a command to GitLab, and none is meant. */
function texts({ title, body, draft }: PullRequestRequest): { readonly title: string; readonly description: string } {
  return { title: draft && !/^draft:/i.test(title) ? `Draft: ${title}`.slice(0, 255) : title, description: body.replaceAll(/^(\s*)\//gm, '$1\\/') }
}

function path(repository: string): string {
  return `projects/${encodeURIComponent(repository)}`
}
