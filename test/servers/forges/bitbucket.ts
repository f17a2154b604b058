import { z } from 'zod'
import { addRequest, openFor, type ForgeRoutes, type StoredRequest } from './server.js'

/** https://developer.atlassian.com/cloud/bitbucket/rest/api-group-pullrequests, as far as it is called. A second request for the same branches updates the first, as there. */

const branch = z.strictObject({ branch: z.strictObject({ name: z.string() }) })
const people = z.array(z.union([z.strictObject({ uuid: z.string().regex(/^\{.+\}$/) }), z.strictObject({ account_id: z.string() })]))
const create = z.strictObject({ title: z.string().min(1).max(255), description: z.string().optional(), source: branch, destination: branch.optional(), reviewers: people.optional(), draft: z.boolean().optional(), close_source_branch: z.boolean().optional() })
const update = z.strictObject({ title: z.string().min(1).max(255), description: z.string().optional(), reviewers: people.optional(), draft: z.boolean().optional() })

const refused = (message: string, fields?: object) => ({ status: 400, body: { type: 'error', error: { message, ...(fields === undefined ? {} : { fields }) } } })

export const bitbucketRoutes: ForgeRoutes = (state, path, { method, query, body }, origin) => {
  if (path[0] !== 'repositories' || path[1] !== 'acme' || path[2] !== 'web') return undefined
  const [kind, number] = path.slice(3)
  const shown = ({ number: id, title, body: raw, draft, state: stands, head, base }: StoredRequest) => ({
    type: 'pullrequest', id, title, description: raw, summary: { raw, markup: 'markdown' }, draft, state: stands === 'open' ? 'OPEN' : stands === 'merged' ? 'MERGED' : 'DECLINED',
    source: { branch: { name: head } }, destination: { branch: { name: base } }, links: { self: { href: `${origin}/2.0/${id}` }, html: { href: `https://bitbucket.example/acme/web/pull-requests/${id}` } },
  })
  const ids = (asked: z.output<typeof people>) => asked.map((each) => ('uuid' in each ? each.uuid : each.account_id))
  if (kind === undefined && method === 'GET') return { status: 200, body: { type: 'repository', full_name: 'acme/web', mainbranch: { type: 'branch', name: state.defaultBranch } } }
  if (kind !== 'pullrequests') return undefined
  if (number === undefined && method === 'GET') {
    // Without a state in it only open ones are listed, as there.
    const q = query.get('q') ?? ''
    const [, head = '', base = ''] = /^source\.branch\.name = "(.*?)" AND destination\.branch\.name = "(.*?)" AND \(.*state = "MERGED".*\)$/.exec(q) ?? []
    if (head === '') return refused('Invalid query')
    const found = state.requests.filter((each) => each.head === head && each.base === base)
    return { status: 200, body: { pagelen: 30, size: found.length, page: 1, values: found.toReversed().map(shown) } }
  }
  if (number === undefined && method === 'POST') {
    const asked = create.safeParse(body)
    if (!asked.success) return refused('Bad request', { title: asked.error.issues.map(({ message }) => message) })
    const { title, description = '', source, destination, reviewers = [], draft = false } = asked.data
    const [head, base] = [source.branch.name, destination?.branch.name ?? state.defaultBranch]
    if (!state.branches.has(base)) return refused('destination: branch not found', { destination: ['branch not found'] })
    if (!state.branches.has(head)) return refused('source: branch not found', { source: ['branch not found'] })
    if (state.same.has(`${head} ${base}`)) return refused('There are no changes to be pulled')
    const open = openFor(state, head, base)
    if (open !== undefined) Object.assign(open, { title, body: description })
    return { status: 201, body: shown(open ?? addRequest(state, { head, base, title, body: description, draft, reviewers: ids(reviewers) })) }
  }
  const request = state.requests.find((each) => String(each.number) === number)
  if (request === undefined || method !== 'PUT') return undefined
  const asked = update.safeParse(body)
  if (!asked.success) return refused('Bad request')
  const { title, description = request.body, reviewers, draft = request.draft } = asked.data
  if (reviewers?.some((each) => 'account_id' in each && !/^[0-9a-f]+:/.test(each.account_id)) === true) return refused('reviewers: Malformed reviewers list', { reviewers: ['Malformed reviewers list'] })
  Object.assign(request, { title, body: description, draft, ...(reviewers === undefined ? {} : { reviewers: ids(reviewers) }) })
  return { status: 200, body: shown(request) }
}
