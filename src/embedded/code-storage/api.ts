import { Hono } from 'hono'
import { branchRoutes } from './api-branches.js'
import { diffRoutes } from './api-diffs.js'
import { fileRoutes } from './api-files.js'
import { historyRoutes } from './api-history.js'
import { mergeRoutes } from './api-merge.js'
import { repositoryRoutes } from './api-repositories.js'
import { ApiProblem } from './problem.js'
import type { ApiEnvironment, ApiServices } from './request.js'
import { TokenRefusedError } from './verify.js'

/** Code Storage's HTTP API, as far as a job needs it and the SDK's calls for repositories, branches, merges, history and files. */
export function codeStorageApi(services: ApiServices): Hono {
  const api = new Hono<ApiEnvironment>()
  api.use(async (context, next) => {
    const match = /^Bearer +(\S+)$/i.exec(context.req.header('authorization') ?? '')
    if (match?.[1] === undefined) throw new ApiProblem(401, 'missing authorization header: send "Authorization: Bearer <token>"')
    context.set('claims', await services.verifier.verify(match[1]))
    await next()
  })
  repositoryRoutes(api, services)
  branchRoutes(api, services)
  mergeRoutes(api, services)
  historyRoutes(api, services)
  diffRoutes(api, services)
  fileRoutes(api, services)
  api.all('*', (context) => context.json({ error: `the local Code Storage does not serve ${context.req.method} ${context.req.path}` }, 404))
  api.onError((error, context) => {
    if (error instanceof ApiProblem) return context.json({ error: error.message, ...error.fields }, error.status)
    if (error instanceof TokenRefusedError) return context.json({ error: error.message }, 401)
    services.onError(`${context.req.method} ${context.req.path}: ${error.message}`)
    return context.json({ error: 'internal error' }, 500)
  })
  const root = new Hono()
  root.route('/api/v1', api)
  return root
}
