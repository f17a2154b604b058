import type { Hono } from 'hono'
import { z } from 'zod'
import { pageLimit, pageOf, queryFlag, readBody, readQuery, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import { refusal, type PolicyClaims } from './policy.js'
import { ApiProblem } from './problem.js'
import { branchRef, zeroSha, type Refs } from './refs.js'
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
const deleteBody = z.object({ name: z.string(), ephemeral: flag })
const listQuery = z.object({ limit: pageLimit, cursor: z.string().optional(), ephemeral: queryFlag })
const tagQuery = z.object({ limit: pageLimit, cursor: z.string().optional() })

/** @throws ApiProblem 403 when the token's policies refuse the change. */
export function enforcePolicy(claims: PolicyClaims, branch: string, fastForward: boolean): void {
  const reason = refusal(claims, { ref: `refs/heads/${branch}`, fastForward })
  if (reason !== undefined) throw new ApiProblem(403, reason)
}

/** Create, list and delete branches in both namespaces; list tags. */
export function branchRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repos/branches/create', async (context) => {
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

  api.get('/repos/branches', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const prefix = `${query.ephemeral ? namespacePrefix : ''}refs/heads/`
    const branches = (await listRefs(refs, prefix)).map(({ name, sha, createdAt }) => ({ cursor: name, name, head_sha: sha, created_at: createdAt }))
    const { page, ...rest } = pageOf(branches, (branch) => branch.name, query)
    return context.json({ branches: page, ...rest })
  })

  api.delete('/repos/branches', async (context) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const { name, ephemeral } = await readBody(context, deleteBody)
    const ref = branchRef(name, ephemeral, 'name')
    const sha = await refs.commit(ref)
    if (sha === null) throw new ApiProblem(404, `branch "${name}" not found`)
    if (!ephemeral && name === (await refs.defaultBranch())) throw new ApiProblem(409, 'the default branch can’t be deleted')
    enforcePolicy(claims, name, false)
    if (!(await refs.compareAndSwap(ref, sha, zeroSha))) throw new ApiProblem(409, `branch "${name}" moved meanwhile`)
    return context.json({ name, message: 'branch deleted', ephemeral })
  })

  api.get('/repos/tags', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, tagQuery)
    const tags = (await listRefs(refs, 'refs/tags/')).map(({ name, sha }) => ({ cursor: name, name, sha }))
    const { page, ...rest } = pageOf(tags, (tag) => tag.name, query)
    return context.json({ tags: page, ...rest })
  })
}

/** An existing branch is left alone unless it stands at the commit already or `force` is set. */
async function createBranch(
  refs: Refs,
  claims: PolicyClaims,
  target: { branch: string; ref: string; sha: string; force: boolean },
): Promise<void> {
  const current = await refs.commit(target.ref)
  enforcePolicy(claims, target.branch, current === null || (await refs.isAncestor(current, target.sha)))
  if (current === target.sha) return
  if (current !== null && !target.force) throw new ApiProblem(409, `branch "${target.branch}" already exists`)
  if (await refs.compareAndSwap(target.ref, current ?? zeroSha, target.sha)) return
  throw new ApiProblem(409, `branch "${target.branch}" was created or moved meanwhile`)
}

async function listRefs(refs: Refs, prefix: string): Promise<{ name: string; sha: string; createdAt: string }[]> {
  const format = '%(refname)%00%(objectname)%00%(*objectname)%00%(creatordate:iso-strict)'
  const lines = (await refs.run(['for-each-ref', `--format=${format}`, prefix])).split('\n').filter((line) => line !== '')
  return lines
    .map((line) => {
      const [ref = '', sha = '', peeled = '', createdAt = ''] = line.split('\0')
      return { name: ref.slice(prefix.length), sha: peeled === '' ? sha : peeled, createdAt }
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
