import type { Hono } from 'hono'
import { z } from 'zod'
import { branchNameProblem, repositoryProblem } from '../../job/names.js'
import { fullSha, pageLimit, pageOf, readBody, readQuery, repositoryId, repositoryOf, requireScope, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { Refs } from './refs.js'
import type { Repository } from './repositories.js'

const baseRepo = z.object({
  provider: z.string().default('github'),
  name: z.string(),
  operation: z.string().default('fork'),
  ref: z.string().optional(),
  sha: fullSha.optional(),
  auth: z.object({ token: z.string() }).partial().optional(),
})
type BaseRepo = z.output<typeof baseRepo>
const createBody = z.object({ default_branch: z.string().optional(), base_repo: baseRepo.nullish() })
const listQuery = z.object({ limit: pageLimit(), cursor: z.string().optional(), q: z.string().optional() })

/** Create, look at, list and delete repositories. */
export function repositoryRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  const { store } = services

  api.post('/repositories', async (context) => {
    const claims = context.get('claims')
    requireScope(claims, 'repo:write')
    const id = repositoryId(context)
    const body = await readBody(context, createBody)
    const idProblem = repositoryProblem(id)
    if (idProblem !== undefined) throw new ApiProblem(400, `repo: "${id.slice(0, 200)}" ${idProblem}`)
    const base = body.base_repo == null ? null : await baseOf(services, body.base_repo)
    const defaultBranch = body.default_branch ?? (await base?.refs.defaultBranch()) ?? 'main'
    const branchProblem = branchNameProblem(defaultBranch)
    if (branchProblem !== undefined) throw new ApiProblem(400, `default_branch: "${defaultBranch.slice(0, 200)}" ${branchProblem}`)
    const created = await store.create(id, defaultBranch, base === null ? undefined : { from: base.repository, refspecs: base.refspecs(defaultBranch) })
    if (created === null) throw new ApiProblem(409, 'repository already exists')
    return context.json({ repo_id: created.id, default_branch: defaultBranch, created_at: created.createdAt, message: 'repository created' }, 201)
  })

  api.get('/repository', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'any')
    return context.json({ repo_id: repository.id, repo_name: repository.id, default_branch: await refs.defaultBranch(), created_at: repository.createdAt })
  })

  api.get('/repositories', async (context) => {
    requireScope(context.get('claims'), 'org:read')
    const query = readQuery(context, listQuery)
    const wanted = query.q?.toLowerCase()
    const all = (await store.list()).filter((repository) => wanted === undefined || repository.id.toLowerCase().includes(wanted))
    const { page, ...rest } = pageOf(all, (repository) => repository.id, query)
    const repos = await Promise.all(
      page.map(async (repository) => ({
        repo_id: repository.id,
        repo_name: repository.id,
        url: `${services.storageUrl()}/${repository.id}.git`,
        default_branch: await new Refs(store.git, repository).defaultBranch(),
        created_at: repository.createdAt,
      })),
    )
    return context.json({ repos, ...rest })
  })

  api.delete('/repository', async (context) => {
    const { repository } = await repositoryOf(context, services, 'repo:write')
    if (!(await store.delete(repository))) throw new ApiProblem(409, 'repository already deleted')
    return context.json({ repo_id: repository.id, message: 'repository deleted' })
  })
}

/** What a new repository is a copy of: another one of the organisation, that the token beside it can read. */
async function baseOf(services: ApiServices, base: BaseRepo): Promise<{ repository: Repository; refs: Refs; refspecs: (branch: string) => string[] }> {
  if (!['code', 'code.storage'].includes(base.provider) || base.operation !== 'fork') {
    throw new ApiProblem(501, 'base_repo: the local Code Storage forks its own repositories and mirrors no others; create the repository and push to it')
  }
  const claims = await services.verifier.verify(base.auth?.token ?? '')
  if (claims.repo !== base.name) throw new ApiProblem(403, 'base_repo.auth.token: is for another repository')
  requireScope(claims, 'git:read')
  const repository = await services.store.find(base.name)
  if (repository === null) throw new ApiProblem(404, 'base_repo: repository not found')
  const refs = new Refs(services.store.git, repository)
  if (base.sha === undefined && base.ref === undefined) {
    return { repository, refs, refspecs: () => ['+refs/heads/*:refs/heads/*', '+refs/tags/*:refs/tags/*'] }
  }
  const sha = await refs.named(base.sha ?? base.ref, false, 'base_repo.ref')
  return { repository, refs, refspecs: (branch) => [`+${sha}:refs/heads/${branch}`] }
}
