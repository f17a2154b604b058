import { Hono } from 'hono'
import { archiveRoutes } from './api-archive.js'
import { blameRoutes } from './api-blame.js'
import { branchRoutes } from './api-branches.js'
import { commitRoutes } from './api-commits.js'
import { diffRoutes } from './api-diffs.js'
import { fileRoutes } from './api-files.js'
import { historyRoutes } from './api-history.js'
import { mergeRoutes } from './api-merge.js'
import { noteRoutes } from './api-notes.js'
import { repositoryRoutes } from './api-repositories.js'
import { searchRoutes } from './api-search.js'
import { tagRoutes } from './api-tags.js'
import { upstreamRoutes } from './api-upstream.js'
import { ApiProblem } from './problem.js'
import type { ApiEnvironment, ApiServices } from './request.js'
import { apiRoute } from './routes.js'
import { TokenRefusedError } from './verify.js'

/** The routes that read a body as it comes. */
const streams = /\/(?:commit-pack|diff-commit)$/

/** Code Storage's HTTP API: every call of its SDKs has an answer, at the current address and at the older one. */
export function codeStorageApi(services: ApiServices): Hono<ApiEnvironment> {
  const api = new Hono<ApiEnvironment>({ getPath: (request) => apiRoute(new URL(request.url).pathname).path })
  api.use(async (context, next) => {
    const match = /^Bearer +(\S+)$/i.exec(context.req.header('authorization') ?? '')
    if (match?.[1] === undefined) throw new ApiProblem(401, 'missing authorization header: send "Authorization: Bearer <token>"')
    context.set('claims', await services.verifier.verify(match[1]))
    context.set('route', apiRoute(new URL(context.req.url).pathname))
    await next()
  })
  for (const routes of [
    repositoryRoutes,
    branchRoutes,
    tagRoutes,
    mergeRoutes,
    historyRoutes,
    diffRoutes,
    fileRoutes,
    commitRoutes,
    noteRoutes,
    blameRoutes,
    searchRoutes,
    archiveRoutes,
    upstreamRoutes,
  ]) {
    routes(api, services)
  }
  api.all('*', (context) => context.json({ error: `the local Code Storage does not serve ${context.req.method} ${new URL(context.req.url).pathname}` }, 404))
  api.onError((error, context) => {
    // A body of which the rest was not read ends its connection: nobody may send another request behind it.
    if (error instanceof ApiProblem && (error.status === 413 || error.status === 403 || streams.test(context.req.path))) context.header('connection', 'close')
    if (error instanceof ApiProblem) return context.json({ error: error.message, ...error.fields }, error.status)
    if (error instanceof TokenRefusedError) return context.json({ error: error.message }, 401)
    services.onError(`${context.req.method} ${context.req.path}: ${error.message}`)
    return context.json({ error: 'internal error' }, 500)
  })
  return api
}
