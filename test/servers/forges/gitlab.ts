import { z } from 'zod'
import { addRequest, openFor, type ForgeRoutes, type StoredRequest } from './server.js'

/** https://docs.gitlab.com/api/merge_requests, as far as it is called. Quick actions in descriptions are carried out, as there. */

const fields = { title: z.string().min(1).max(255), description: z.string().max(1_048_576), labels: z.string(), add_labels: z.string(), reviewer_ids: z.array(z.int()) }
const create = z.strictObject({ source_branch: z.string(), target_branch: z.string(), title: fields.title, description: fields.description.optional(), labels: fields.labels.optional(), reviewer_ids: fields.reviewer_ids.optional() })
const update = z.strictObject({ title: fields.title.optional(), description: fields.description.optional(), add_labels: fields.add_labels.optional(), reviewer_ids: fields.reviewer_ids.optional() })

export const gitlabRoutes: ForgeRoutes = (state, path, { method, query, body }) => {
  if (path[0] === 'users' && method === 'GET') {
    const id = state.users.get(query.get('username') ?? '')
    return { status: 200, body: id === undefined ? [] : [{ id, username: query.get('username'), state: 'active' }] }
  }
  if (path[0] !== 'projects' || path[1] !== 'acme/web') return path[0] === 'projects' ? { status: 404, body: { message: '404 Project Not Found' } } : undefined
  const [kind, number] = path.slice(2)
  const shown = ({ number: iid, title, body: description, draft, state: stands, head, base, labels }: StoredRequest) => ({
    id: 1000 + iid, iid, project_id: 1, title, description: description === '' ? null : description, state: stands === 'open' ? 'opened' : stands, draft, labels,
    source_branch: head, target_branch: base, web_url: `https://gitlab.example/acme/web/-/merge_requests/${iid}`,
  })
  const obey = (request: StoredRequest) => {
    request.draft = /^draft:/i.test(request.title)
    if (/^\s*\/(merge|close|approve)\b/m.test(request.body)) request.state = 'merged'
  }
  const named = (ids: readonly number[]) => [...state.users].filter(([, id]) => ids.includes(id)).map(([name]) => name)
  if (kind === undefined && method === 'GET') return { status: 200, body: { id: 1, path_with_namespace: 'acme/web', default_branch: state.defaultBranch } }
  if (kind !== 'merge_requests') return undefined
  if (number === undefined && method === 'GET') {
    const found = state.requests.filter(({ head, base }) => query.get('source_branch') === head && query.get('target_branch') === base)
    return { status: 200, body: found.toReversed().map(shown) }
  }
  if (number === undefined && method === 'POST') {
    const asked = create.safeParse(body)
    if (!asked.success) return { status: 400, body: { error: asked.error.issues[0]?.message } }
    const { source_branch: head, target_branch: base, title, description = '', labels = '' } = asked.data
    if (!state.branches.has(base)) return { status: 400, body: { message: { target_branch: [`"${base}" does not exist`] } } }
    if (!state.branches.has(head)) return { status: 400, body: { message: { source_branch: [`"${head}" does not exist`] } } }
    const open = openFor(state, head, base)
    if (open !== undefined) return { status: 409, body: { message: [`Another open merge request already exists for this source branch: !${open.number}`] } }
    const made = addRequest(state, { head, base, title, body: description, draft: false, labels: labels === '' ? [] : labels.split(',') })
    obey(made)
    return { status: 201, body: shown(made) }
  }
  const request = state.requests.find((each) => String(each.number) === number)
  if (request === undefined || method !== 'PUT') return undefined
  const asked = update.safeParse(body)
  if (!asked.success) return { status: 400, body: { error: asked.error.issues[0]?.message } }
  const { title = request.title, description = request.body, add_labels: added = '', reviewer_ids: ids } = asked.data
  Object.assign(request, { title, body: description, labels: [...new Set([...request.labels, ...(added === '' ? [] : added.split(','))])], ...(ids === undefined ? {} : { reviewers: named(ids) }) })
  obey(request)
  return { status: 200, body: shown(request) }
}
