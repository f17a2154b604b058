import { z } from 'zod'
import { addRequest, openFor, type ForgeRoutes, type ForgeState, type StoredRequest } from './server.js'

/** https://docs.github.com/rest/pulls/pulls, as far as it is called. */

const create = z.strictObject({ title: z.string().min(1).max(256), head: z.string(), base: z.string(), body: z.string().max(65_536).optional(), draft: z.boolean().optional(), maintainer_can_modify: z.boolean().optional() })
const update = z.strictObject({ title: z.string().min(1).max(256).optional(), body: z.string().max(65_536).optional(), state: z.enum(['open', 'closed']).optional(), base: z.string().optional() })
const labels = z.strictObject({ labels: z.array(z.string().max(50)).min(1) })
const reviewers = z.strictObject({ reviewers: z.array(z.string()), team_reviewers: z.array(z.string()) })

const invalid = (...errors: object[]) => ({ status: 422, body: { message: 'Validation Failed', errors, documentation_url: 'https://docs.github.com/rest/pulls/pulls#create-a-pull-request', status: '422' } })

/** https://docs.github.com/graphql/reference/mutations: what is asked for here, as the schema has it. */
const graphql = z.strictObject({ query: z.string(), variables: z.strictObject({ id: z.string() }) })
const mutation = /^mutation \(\$id: ID!\) \{ (markPullRequestReadyForReview|convertPullRequestToDraft)\(input: \{ pullRequestId: \$id \}\) \{ pullRequest \{ isDraft \} \} \}$/

function answerGraphql(state: ForgeState, body: unknown) {
  const asked = graphql.safeParse(body)
  const name = mutation.exec(asked.data?.query ?? '')?.[1]
  if (!asked.success || name === undefined) return { status: 200, body: { errors: [{ message: 'Parse error on "query"', locations: [{ line: 1, column: 1 }] }] } }
  const request = state.requests.find(({ number }) => nodeId(number) === asked.data.variables.id)
  const refused = (type: string, message: string) => ({ status: 200, body: { data: { [name]: null }, errors: [{ type, path: [name], message }] } })
  if (request === undefined) return refused('NOT_FOUND', `Could not resolve to a node with the global id of '${asked.data.variables.id}'`)
  if (name === 'convertPullRequestToDraft' && state.noDrafts) return refused('UNPROCESSABLE', 'Draft pull requests are not supported in this repository.')
  request.draft = name === 'convertPullRequestToDraft'
  return { status: 200, body: { data: { [name]: { pullRequest: { isDraft: request.draft } } } } }
}

const nodeId = (number: number) => `PR_kwDO${number}`

export const githubRoutes: ForgeRoutes = (state, path, { method, query, body }, origin) => {
  // Of GitHub itself, and of a server of one's own, where REST is at /api/v3.
  if (method === 'POST' && (path.join('/') === 'graphql' || path.join('/') === 'api/graphql')) return answerGraphql(state, body)
  if (path[0] === 'api' && path[1] === 'v3') path = path.slice(2)
  if (path[0] !== 'repos' || path[1] !== 'acme' || path[2] !== 'web') return undefined
  const [kind, number, more] = path.slice(3)
  const shown = ({ number: id, title, body: text, draft, state: stands, head, base }: StoredRequest) => ({
    id: 1000 + id, node_id: nodeId(id), number: id, state: stands === 'open' ? 'open' : 'closed', title, body: text === '' ? null : text, draft, locked: false, merged_at: stands === 'merged' ? '2026-01-01T00:00:00Z' : null,
    url: `${origin}/repos/acme/web/pulls/${id}`, html_url: `https://github.example/acme/web/pull/${id}`, head: { ref: head, label: `acme:${head}` }, base: { ref: base, label: `acme:${base}` },
  })
  if (kind === undefined && method === 'GET') return { status: 200, body: { id: 1, name: 'web', full_name: 'acme/web', private: true, default_branch: state.defaultBranch } }
  if (kind === 'pulls' && number === undefined && method === 'GET') {
    const found = state.requests.filter(({ head, base, state: stands }) => query.get('head') === `acme:${head}` && query.get('base') === base && (query.get('state') === 'all' || stands === 'open'))
    return { status: 200, body: found.toReversed().map(shown) }
  }
  if (kind === 'pulls' && number === undefined && method === 'POST') {
    const asked = create.safeParse(body)
    if (!asked.success) return { status: 422, body: { message: `Invalid request.\n\n${asked.error.message}` } }
    const { title, head, base, body: text = '', draft = false } = asked.data
    if (!state.branches.has(base)) return invalid({ resource: 'PullRequest', field: 'base', code: 'invalid' })
    if (!state.branches.has(head)) return invalid({ resource: 'PullRequest', field: 'head', code: 'invalid' })
    if (state.same.has(`${head} ${base}`)) return invalid({ resource: 'PullRequest', code: 'custom', message: `No commits between ${base} and ${head}` })
    if (openFor(state, head, base) !== undefined) return invalid({ resource: 'PullRequest', code: 'custom', message: `A pull request already exists for acme:${head}.` })
    return { status: 201, body: shown(addRequest(state, { head, base, title, body: text, draft })) }
  }
  const request = state.requests.find((each) => String(each.number) === number)
  if (request === undefined) return undefined
  if (kind === 'pulls' && more === undefined && method === 'PATCH') {
    const asked = update.safeParse(body)
    if (!asked.success) return { status: 422, body: { message: 'Validation Failed' } }
    Object.assign(request, asked.data.title === undefined ? {} : { title: asked.data.title }, asked.data.body === undefined ? {} : { body: asked.data.body })
    return { status: 200, body: shown(request) }
  }
  if (kind === 'issues' && more === 'labels' && method === 'POST') {
    request.labels = [...new Set([...request.labels, ...labels.parse(body).labels])]
    return { status: 200, body: request.labels.map((name, id) => ({ id, name })) }
  }
  if (kind === 'pulls' && more === 'requested_reviewers' && method === 'POST') {
    const asked = reviewers.parse(body)
    if (asked.reviewers.some((name) => !state.users.has(name))) return { status: 422, body: { message: 'Reviews may only be requested from collaborators. One or more of the users or teams you specified is not a collaborator of the acme/web repository.' } }
    request.reviewers = [...new Set([...request.reviewers, ...asked.reviewers, ...asked.team_reviewers])]
    return { status: 201, body: shown(request) }
  }
  return undefined
}
