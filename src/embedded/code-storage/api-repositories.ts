import type { Hono } from 'hono'
import { z } from 'zod'
import { branchNameProblem, repositoryProblem } from '../../job/names.js'
import { pageLimit, pageOf, readBody, readQuery, repositoryOf, requireScope, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { Refs } from './refs.js'

const createBody = z.object({ default_branch: z.string().default('main'), base_repo: z.unknown().optional() })
const listQuery = z.object({ limit: pageLimit, cursor: z.string().optional(), q: z.string().optional() })

/** Create, look at, list and delete repositories. */
export function repositoryRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  const { store } = services

  api.post('/repos', async (context) => {
    const claims = context.get('claims')
    requireScope(claims, 'repo:write')
    const body = await readBody(context, createBody)
    if (body.base_repo !== undefined) {
      throw new ApiProblem(501, 'base_repo: the local Code Storage neither forks nor mirrors; create the repository and push to it')
    }
    const idProblem = repositoryProblem(claims.repo)
    if (idProblem !== undefined) throw new ApiProblem(400, `repo: "${claims.repo}" ${idProblem}`)
    const branchProblem = branchNameProblem(body.default_branch)
    if (branchProblem !== undefined) throw new ApiProblem(400, `default_branch: "${body.default_branch}" ${branchProblem}`)
    const created = await store.create(claims.repo, body.default_branch)
    if (created === null) throw new ApiProblem(409, 'repository already exists')
    return context.json({ repo_id: created.id, default_branch: body.default_branch, created_at: created.createdAt, message: 'repository created' }, 201)
  })

  api.get('/repo', async (context) => {
    const claims = context.get('claims')
    const repository = await store.find(claims.repo)
    if (repository === null) throw new ApiProblem(404, 'repository not found')
    const refs = new Refs(store.git, repository)
    return context.json({ repo_id: repository.id, default_branch: await refs.defaultBranch(), created_at: repository.createdAt })
  })

  api.get('/repos', async (context) => {
    requireScope(context.get('claims'), 'org:read')
    const query = readQuery(context, listQuery)
    const wanted = query.q?.toLowerCase()
    const all = (await store.list()).filter((repository) => wanted === undefined || repository.id.toLowerCase().includes(wanted))
    const { page, ...rest } = pageOf(all, (repository) => repository.id, query)
    const repos = await Promise.all(
      page.map(async (repository) => ({
        repo_id: repository.id,
        url: `${services.storageUrl()}/${repository.id}.git`,
        default_branch: await new Refs(store.git, repository).defaultBranch(),
        created_at: repository.createdAt,
      })),
    )
    return context.json({ repos, ...rest })
  })

  api.delete('/repos/delete', async (context) => {
    const { repository } = await repositoryOf(context, services, 'repo:write')
    await store.delete(repository)
    return context.json({ repo_id: repository.id, message: 'repository deleted' })
  })
}
