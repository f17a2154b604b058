import type { Hono } from 'hono'
import { z } from 'zod'
import { branchNameProblem } from '../../job/names.js'
import { pageLimit, pageOf, readBody, readQuery, repositoryOf, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { enforcePolicy, zeroSha } from './refs.js'

const listQuery = z.object({ limit: pageLimit(), cursor: z.string().optional() })
const oneQuery = z.object({ name: z.string() })
const createBody = z.object({ name: z.string(), ref: z.string().min(1) })
const deleteBody = z.object({ name: z.string() })

/** Create, list, look up and delete tags. Those that are created here are lightweight. */
export function tagRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/tags', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const tags = (await refs.list('refs/tags/')).map(({ name, sha }) => ({ cursor: name, name, sha }))
    const { page, ...rest } = pageOf(tags, (tag) => tag.name, query)
    return context.json({ tags: page, ...rest })
  })

  api.get('/repository/tag', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const { name } = readQuery(context, oneQuery)
    const tag = (await refs.list(tagRef(name))).find((found) => found.name === '')
    if (tag === undefined) throw new ApiProblem(404, `tag "${name}" not found`)
    return context.json({ tag: { name, sha: tag.sha } })
  })

  api.post('/repository/tags', async (context) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const { name, ref: target } = await readBody(context, createBody, { target: 'ref' })
    const ref = tagRef(name)
    enforcePolicy(claims, ref, true)
    const sha = await refs.named(target, false, 'ref')
    await refs.enforceSignatures(claims, ref, null, sha)
    if (!(await refs.compareAndSwap(ref, zeroSha, sha))) throw new ApiProblem(409, `tag "${name}" already exists, or is in the way of another`)
    return context.json({ name, sha, message: 'tag created' })
  })

  const remove = async (context: ApiContext, name: string) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const ref = tagRef(name)
    const tag = (await refs.list(ref)).find((found) => found.name === '')
    if (tag === undefined) throw new ApiProblem(404, `tag "${name}" not found`)
    enforcePolicy(claims, ref, false)
    // An annotated tag's own sha, which is not its commit's.
    const sha = (await refs.run(['rev-parse', '--verify', ref])).trim()
    if (!(await refs.compareAndSwap(ref, sha, zeroSha))) throw new ApiProblem(409, `tag "${name}" moved meanwhile`)
    return context.json({ name, message: 'tag deleted' })
  }
  api.delete('/repository/tags', async (context) => remove(context, (await readBody(context, deleteBody)).name))
  api.delete('/repository/tags/:name', async (context) => remove(context, context.req.param('name')))
}

/** @throws ApiProblem 400 for a name that git refuses. */
function tagRef(name: string): string {
  const problem = branchNameProblem(name)
  if (problem !== undefined) throw new ApiProblem(400, `name: "${name.slice(0, 200)}" ${problem}`)
  return `refs/tags/${name}`
}
