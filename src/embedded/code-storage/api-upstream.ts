import { randomUUID } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Hono } from 'hono'
import { z } from 'zod'
import { gitText, readBody, repositoryId, repositoryOf, requireScope, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import type { Repository } from './repositories.js'

const pullBody = z.object({ ref: z.string().optional() })
const secret = { password: gitText(10_000).min(1), username: gitText().optional() }
const createBody = z.object({ repo_id: z.string().optional(), ...secret })
const updateBody = z.object({ id: z.string().optional(), ...secret })
const deleteBody = z.object({ id: z.string().optional() })

const credentialFile = 'upstream-credential.json'
const credentialSchema = z.object({ id: z.string(), username: z.string().nullable(), createdAt: z.iso.datetime() })
type Credential = z.output<typeof credentialSchema>

/**
 * The calls for a repository's upstream at another host. The local Code Storage calls nobody: it has no upstreams, so that a pull is
 * refused. A credential for one can be made, changed and deleted; its password, which nobody would use, is not kept.
 */
export function upstreamRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/pull-upstream', async (context) => {
    await repositoryOf(context, services, 'git:write')
    await readBody(context, pullBody)
    throw new ApiProblem(400, 'the repository has no upstream: the local Code Storage mirrors none')
  })

  api.delete('/repository/base', async (context) => {
    await repositoryOf(context, services, 'git:write')
    return context.json({ message: 'the repository has no upstream' })
  })

  api.post('/repository/git-credentials', async (context) => {
    const { repository } = await repositoryOf(context, services, 'repo:write')
    const body = await readBody(context, createBody)
    if (body.repo_id !== undefined && body.repo_id !== repositoryId(context)) throw new ApiProblem(403, 'repo_id: the token is for another repository')
    const credential = { id: randomUUID(), username: body.username ?? null, createdAt: new Date().toISOString() }
    if (!(await write(repository, credential, 'wx'))) throw new ApiProblem(409, 'a credential already exists for this repository')
    return context.json({ id: credential.id, created_at: credential.createdAt }, 201)
  })

  const update = async (context: ApiContext, id: string | undefined) => {
    const body = await readBody(context, updateBody)
    const { repository, credential } = await find(context, services, id ?? body.id)
    await write(repository, { ...credential, username: body.username ?? credential.username }, 'w')
    return context.json({ id: credential.id, created_at: credential.createdAt })
  }
  api.put('/repository/git-credentials', (context) => update(context, undefined))
  api.put('/repository/git-credentials/:id', (context) => update(context, context.req.param('id')))

  const remove = async (context: ApiContext, id: string | undefined) => {
    const { repository } = await find(context, services, id ?? (await readBody(context, deleteBody)).id)
    await rm(join(repository.path, credentialFile), { force: true })
    return context.json({ message: 'credential deleted' })
  }
  api.delete('/repository/git-credentials', (context) => remove(context, undefined))
  api.delete('/repository/git-credentials/:id', (context) => remove(context, context.req.param('id')))
}

/** The credential of an id, in the token's repository; a token for the organisation, which its SDK calls `org`, reaches all of them. */
async function find(context: ApiContext, services: ApiServices, id: string | undefined): Promise<{ repository: Repository; credential: Credential }> {
  const claims = context.get('claims')
  requireScope(claims, 'repo:write')
  if (id === undefined || id === '') throw new ApiProblem(400, 'id: is missing')
  const wholeOrganisation = context.get('route').repository === undefined && (claims.repo === undefined || claims.repo === 'org')
  const repositories = wholeOrganisation ? await services.store.list() : [await services.store.find(repositoryId(context))]
  for (const repository of repositories) {
    const credential = repository === null ? null : await read(repository)
    if (repository !== null && credential?.id === id) return { repository, credential }
  }
  throw new ApiProblem(404, 'credential not found')
}

async function read(repository: Repository): Promise<Credential | null> {
  try {
    return credentialSchema.parse(JSON.parse(await readFile(join(repository.path, credentialFile), 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** @returns false when there is one already and `wx` was asked for. */
async function write(repository: Repository, credential: Credential, flag: 'w' | 'wx'): Promise<boolean> {
  try {
    await writeFile(join(repository.path, credentialFile), JSON.stringify(credential), { flag, mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}
