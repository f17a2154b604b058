import type { Hono } from 'hono'
import { z } from 'zod'
import { pageLimit, pageOf, queryFlag, readBody, readQuery, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import type { PolicyClaims } from './policy.js'
import { ApiProblem } from './problem.js'
import { branchRef, enforcePolicy, zeroSha, type NamedRef, type Refs } from './refs.js'
import { namespacePrefix } from './repositories.js'

const flag = z.boolean().default(false)
const createBody = z.object({
  base_ref: z.string().min(1).optional(),
  base_branch: z.string().min(1).optional(),
  base_is_ephemeral: flag,
  target_branch: z.string(),
  target_is_ephemeral: flag,
  force: flag,
})
const deleteBody = z.object({ target_branch: z.string(), ephemeral: flag })
const listQuery = z.object({ limit: pageLimit(), cursor: z.string().optional(), ephemeral: queryFlag })
const oneQuery = z.object({ name: z.string(), ephemeral: queryFlag })

/** Create, list, look up and delete branches in both namespaces. */
export function branchRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/branches/create', async (context) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const body = await readBody(context, createBody)
    const base = body.base_ref ?? body.base_branch
    if (base === undefined) throw new ApiProblem(400, 'base_ref: is missing; name the ref to start from')
    const target = branchRef(body.target_branch, body.target_is_ephemeral, 'target_branch')
    const sha = await refs.named(base, body.base_is_ephemeral, body.base_ref === undefined ? 'base_branch' : 'base_ref')
    await createBranch(refs, claims, { branch: body.target_branch, ref: target, sha, force: body.force })
    return context.json({
      message: 'branch created',
      target_branch: body.target_branch,
      target_is_ephemeral: body.target_is_ephemeral,
      commit_sha: sha,
    })
  })

  api.get('/repository/branches', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const prefix = `${query.ephemeral ? namespacePrefix : ''}refs/heads/`
    const branches = (await refs.list(prefix)).map((branch) => ({ cursor: branch.name, ...described(branch) }))
    const { page, ...rest } = pageOf(branches, (branch) => branch.name, query)
    return context.json({ branches: page, ...rest })
  })

  api.get('/repository/branch', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const { name, ephemeral } = readQuery(context, oneQuery)
    const ref = branchRef(name, ephemeral, 'name')
    const branch = (await refs.list(ref)).find((found) => found.name === '')
    if (branch === undefined) throw new ApiProblem(404, `branch "${name}" not found`)
    return context.json({ branch: described({ ...branch, name }) })
  })

  api.delete('/repository/branches', async (context) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const { target_branch: name, ephemeral } = await readBody(context, deleteBody, { name: 'target_branch', target_is_ephemeral: 'ephemeral' })
    const ref = branchRef(name, ephemeral, 'target_branch')
    const sha = await refs.commit(ref)
    if (sha === null) throw new ApiProblem(404, `branch "${name}" not found`)
    if (!ephemeral && name === (await refs.defaultBranch())) throw new ApiProblem(409, 'the default branch can’t be deleted')
    enforcePolicy(claims, `refs/heads/${name}`, false)
    if (!(await refs.compareAndSwap(ref, sha, zeroSha))) throw new ApiProblem(409, `branch "${name}" moved meanwhile`)
    return context.json({ name, target_branch: name, message: 'branch deleted', ephemeral })
  })
}

function described({ name, sha, createdAt }: NamedRef) {
  return { name, head_sha: sha, created_at: createdAt }
}

/** An existing branch is moved forward; `force` moves it elsewhere too. */
async function createBranch(
  refs: Refs,
  claims: PolicyClaims,
  target: { branch: string; ref: string; sha: string; force: boolean },
): Promise<void> {
  const current = await refs.commit(target.ref)
  const fastForward = current === null || (await refs.isAncestor(current, target.sha))
  enforcePolicy(claims, `refs/heads/${target.branch}`, fastForward)
  if (current === target.sha) return
  if (!fastForward && !target.force) throw new ApiProblem(409, `branch "${target.branch}" exists and can’t be fast-forwarded; "force" moves it`)
  await refs.enforceSignatures(claims, `refs/heads/${target.branch}`, current, target.sha)
  if (await refs.compareAndSwap(target.ref, current ?? zeroSha, target.sha)) return
  throw new ApiProblem(409, `branch "${target.branch}" was created or moved meanwhile`)
}
