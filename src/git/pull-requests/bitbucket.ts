import { z } from 'zod'
import type { GitCallOptions } from '../host.js'
import { saidIn, type ForgeApi } from './forge-api.js'
import type { Forge, KnownPullRequest, OpenOutcome } from './pull-requests.js'
import type { PullRequestRequest } from './request.js'

const pull = z.object({
  id: z.int().min(1),
  state: z.string(),
  description: z.string().nullish(),
  summary: z.object({ raw: z.string().nullish() }).nullish(),
  links: z.object({ html: z.object({ href: z.url({ protocol: /^https?$/ }) }) }),
})
const known = ({ id, state, description, summary, links }: z.output<typeof pull>): KnownPullRequest => ({ number: id, url: links.html.href, open: state === 'OPEN', body: description ?? summary?.raw ?? '' })

/** Bitbucket Cloud: https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pullrequests */
export class BitbucketForge implements Forge {
  constructor(private readonly api: ForgeApi) {}

  async defaultBranch(repository: string, options: GitCallOptions): Promise<string> {
    const answer = await this.api.call({ method: 'GET', path: path(repository), repository }, options)
    const { mainbranch } = this.api.read(z.object({ mainbranch: z.object({ name: z.string().min(1) }).nullable() }), answer, 'the repository')
    if (mainbranch === null) throw this.api.error({ kind: 'invalid', owner: 'job' }, `"${repository}" has no main branch; give promote.pullRequest.base`)
    return mainbranch.name
  }

  async between(repository: string, head: string, base: string, options: GitCallOptions): Promise<readonly KnownPullRequest[]> {
    // Branch names hold no quote that ends this text, nor a backslash: git takes none, and neither does a spec.
    const quoted = (name: string) => `"${name.replaceAll('"', '\\"')}"`
    const states = ['OPEN', 'MERGED', 'DECLINED', 'SUPERSEDED'].map((state) => `state = "${state}"`).join(' OR ')
    const query = { q: `source.branch.name = ${quoted(head)} AND destination.branch.name = ${quoted(base)} AND (${states})`, sort: '-created_on', pagelen: '30' }
    const answer = await this.api.call({ method: 'GET', path: `${path(repository)}/pullrequests`, repository, query }, options)
    return this.api.read(z.object({ values: z.array(pull) }), answer, 'the list of pull requests').values.map(known)
  }

  async open({ repository, head, base, title, body, draft }: PullRequestRequest & { readonly base: string }, options: GitCallOptions): Promise<OpenOutcome> {
    const asked = { title, description: body, source: { branch: { name: head } }, destination: { branch: { name: base } }, ...(draft ? { draft } : {}) }
    const answer = await this.api.call({ method: 'POST', path: `${path(repository)}/pullrequests`, repository, body: asked, allowed: [400, 409] }, options)
    if (answer.status < 400) return { opened: known(this.api.read(pull, answer, 'the new pull request')) }
    const said = saidIn(answer.body)
    if (answer.status === 409 || /already (exists|open)/i.test(said)) return 'exists'
    if (/no changes to be pulled/i.test(said)) return 'nothing'
    throw this.api.error({ kind: 'invalid', owner: 'job' }, `from "${head}" to "${base}" is refused${said}; look at promote.pullRequest (base)`)
  }

  async update(number: number, { repository, title, body, draft }: PullRequestRequest, options: GitCallOptions): Promise<KnownPullRequest> {
    const answer = await this.api.call({ method: 'PUT', path: `${path(repository)}/pullrequests/${number}`, repository, body: { title, description: body, draft } }, options)
    return known(this.api.read(pull, answer, 'the pull request'))
  }

  /** Reviewers go by uuid (`{…}`) or account id; there are no labels. */
  async complete({ number }: KnownPullRequest, { repository, title, labels, reviewers }: PullRequestRequest, options: GitCallOptions): Promise<readonly string[]> {
    const problems = labels.length === 0 ? [] : ['it has no labels, which Bitbucket does not know']
    if (reviewers.length === 0) return problems
    const people = reviewers.map((id) => (id.startsWith('{') ? { uuid: id } : { account_id: id }))
    const { status, body } = await this.api.call({ method: 'PUT', path: `${path(repository)}/pullrequests/${number}`, repository, body: { title, reviewers: people }, allowed: [400, 403] }, options)
    return status < 400 ? problems : [...problems, `its reviewers were not asked${saidIn(body)}`]
  }
}

function path(repository: string): string {
  return `repositories/${repository.split('/').map(encodeURIComponent).join('/')}`
}
